// One hand of the coordinator on BullMQ: the major version whose folder it is started with.
//
//   node client.js <folder with node_modules>      the Redis's URL in $GPUMEM_REDIS_URL
//
// One JSON object a line: {"id": 1, "do": "pause", "queue": "ai-batch", "prefix": "bull"} in, and
// {"id": 1, "ok": true} or {"id": 1, "error": "..."} out. The first line out is {"ready": true,
// "version": "5.81.5"}. It ends with its standard input, so it never outlives the coordinator.
"use strict";
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const need = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const { Queue } = need("bullmq");
const IORedis = need("ioredis");

// A command that Redis does not answer must fail, not be sent again later: by then it may be wrong.
const connection = new IORedis(process.env.GPUMEM_REDIS_URL, {
  maxRetriesPerRequest: 1,
  autoResendUnfulfilledCommands: false,
  connectTimeout: 2000,
  retryStrategy: (times) => Math.min(times * 50, 1000),
});
connection.on("error", () => {}); // each command reports its own failure

const queues = new Map();
function queueOf({ queue, prefix }) {
  const key = `${prefix}:${queue}`;
  if (!queues.has(key)) {
    // skipMetasUpdate: opening a queue would write this client's version over the application's.
    const opened = new Queue(queue, { connection, prefix, skipMetasUpdate: true, sharedConnection: true });
    opened.on("error", () => {});
    queues.set(key, opened);
  }
  return queues.get(key);
}

const acts = {
  pause: (ask) => queueOf(ask).pause(),
  resume: (ask) => queueOf(ask).resume(),
  isPaused: (ask) => queueOf(ask).isPaused(),
  counts: (ask) => queueOf(ask).getJobCounts(),
};

async function answer(line) {
  const ask = JSON.parse(line);
  try {
    const value = await acts[ask.do](ask);
    return { id: ask.id, ok: true, value };
  } catch (error) {
    return { id: ask.id, error: String((error && error.message) || error) };
  }
}

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => answer(line).then(say))
  .on("close", () => process.exit(0));
say({ ready: true, version: need("bullmq/package.json").version });
