// Node continues to send while an early response arrives.
import http from "node:http";

const [host, port] = process.argv[2].split(":");
const post = () =>
  new Promise((resolve, reject) => {
    const request = http.request({ host, port, method: "POST", agent: false }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    });
    request.on("error", reject);
    request.end(Buffer.alloc(8 << 20));
  });
const statuses = [];
for (let count = 0; count < 10; count += 1) statuses.push(await post().catch((error) => error.code));
console.log(JSON.stringify(statuses));
