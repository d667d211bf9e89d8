"""What systemd does: binds the socket, lets a client wait in its accept queue, then starts the program with it."""
import os
import socket
import sys

program, folder = sys.argv[1:]
listening = socket.create_server(("127.0.0.1", 0))
address = "%s:%d" % listening.getsockname()
with open(os.path.join(folder, "witgate.toml"), "w") as config:
    config.write(
        f"""
admin = {{ address = "off" }}
listeners = [{{ name = "web", address = "{address}" }}]
routes = [{{ path = "/*", respond = {{ status = 200, body = "inherited" }} }}]
"""
    )
client = socket.create_connection(listening.getsockname())
client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
child = os.fork()
if child == 0:
    os.dup2(listening.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(program, [program, "run", "--config", os.path.join(folder, "witgate.toml")])
client.settimeout(20)
answer = b""
while chunk := client.recv(4096):
    answer += chunk
os.kill(child, 15)
_, status = os.waitpid(child, 0)
print(answer.decode(), "exit", os.waitstatus_to_exitcode(status))
