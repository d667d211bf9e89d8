// Node's own fetch, with a streamed upload.
const base = `http://${process.argv[2]}`;
const hello = await (await fetch(`${base}/hello/node`)).json();
if (hello.hello !== "node") throw new Error(JSON.stringify(hello));
const sum = await fetch(`${base}/sum`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ numbers: [1, 2, 3] }),
});
if ((await sum.json()).sum !== 6) throw new Error("sum");
const text = await (await fetch(`${base}/stream`)).text();
if (text.trim().split("\n").length !== 1000) throw new Error("stream");
console.log("node agrees");
