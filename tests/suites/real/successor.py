"""What systemd does for a take-over with overlap: two gateways with the same file and the same listening socket."""
import os
import socket
import sys
import time

program, folder = sys.argv[1:]
listening = socket.create_server(("127.0.0.1", 0))
free = socket.create_server(("127.0.0.1", 0))
admin = "127.0.0.1:%d" % free.getsockname()[1]
free.close()
config = os.path.join(folder, "witgate.toml")
with open(config, "w") as file:
    file.write(
        f"""
admin = {{ address = "{admin}", socket = "admin.sock" }}
listeners = [{{ name = "web", address = "%s:%d" }}]
routes = [{{ path = "/*", respond = {{ status = 200, body = "served" }} }}]
"""
        % listening.getsockname()
    )
notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notices.bind(os.path.join(folder, "notices"))
notices.settimeout(30)


def start():
    child = os.fork()
    if child == 0:
        os.dup2(listening.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=os.path.join(folder, "notices"))
        os.execv(program, [program, "run", "--config", config])
    while b"READY=1" not in notices.recv(4096):
        pass
    return child


def process(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
        client.sendall(b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return int(answer.split(b'"pid": ')[1].split(b",")[0])


def holders():
    tcp = process(socket.AF_INET, ("127.0.0.1", int(admin.split(":")[1])))
    return tcp, process(socket.AF_UNIX, os.path.join(folder, "admin.sock"))


first = start()
second = start()
print("both serve" if holders() == (first, first) else "lost")
os.kill(first, 15)
print("first", os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]))
held = None
for _ in range(2000):
    try:
        held = holders()
        break
    except OSError:
        time.sleep(0.01)
print("taken over" if held == (second, second) else "not taken over")
os.kill(second, 15)
print("second", os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]))
