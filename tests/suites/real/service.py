"""A plain Flask application that does not know of the gateway in front of it."""
import sys

from flask import Flask, Response, jsonify, request

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name):
    return jsonify(hello=name, address=request.headers.get("X-Forwarded-For"))


@app.post("/sum")
def add():
    return jsonify(sum=sum(request.get_json()["numbers"]))


@app.post("/upload")
def upload():
    return jsonify(size=len(request.files["file"].read()))


@app.get("/stream")
def stream():
    return Response((f"line {number}\n" for number in range(1000)), mimetype="text/plain")


@app.get("/cookies")
def cookies():
    response = Response("two cookies")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


if __name__ == "__main__":
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(server.server_port, flush=True)
    sys.stdout.close()
    server.serve_forever()
