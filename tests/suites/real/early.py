"""http.client sends the whole body before it reads: an early response must still be readable then."""
import http.client
import sys

host, port = sys.argv[1].rsplit(":", 1)
statuses = []
for _ in range(10):
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("POST", "/", body=b"x" * (8 << 20))
    response = connection.getresponse()
    statuses.append(response.status)
    response.read()
    connection.close()
print(statuses)
