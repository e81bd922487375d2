// An application's side of BullMQ in the tests: producers and workers of one major version.
//
//   node app.js <folder with node_modules>     commands as JSON lines on stdin, answers and events on stdout
"use strict";
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const need = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const { Queue, Worker, DelayedError } = need("bullmq");
const IORedis = need("ioredis");
const url = process.env.GPUMEM_REDIS_URL;
const connection = new IORedis(url, { maxRetriesPerRequest: null });
connection.on("error", () => {});
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const queues = new Map();
const workers = new Map();
const fails = new Map();
const helper = process.argv[3] ? require(path.resolve(process.argv[3])) : null;

function queueOf(name) {
  if (!queues.has(name)) {
    const queue = new Queue(name, { connection });
    queue.on("error", () => {});
    queues.set(name, queue);
  }
  return queues.get(name);
}

const acts = {
  async add({ queue, jobs }) {
    await queueOf(queue).addBulk(jobs.map((job) => ({ name: "job", data: job.data || job, opts: job.opts || {} })));
  },
  pause: ({ queue }) => queueOf(queue).pause(),
  resume: ({ queue }) => queueOf(queue).resume(),
  isPaused: ({ queue }) => queueOf(queue).isPaused(),
  counts: ({ queue }) => queueOf(queue).getJobCounts(),
  async work({ queue, concurrency = 1, lane, tell = true }) {
    const guard = lane && helper ? helper.lane(connection, { lane, DelayedError }) : null;
    const worker = new Worker(
      queue,
      async (job, token) => {
        if (guard) await guard.begin(job, token);
        const began = Date.now();
        if (tell) say({ event: "began", queue, job: job.data.n, at: began });
        const failed = fails.get(job.id) || 0;
        if (failed < (job.data.fails || 0)) {
          fails.set(job.id, failed + 1);
          if (guard) await guard.end(job);
          throw new Error("as asked");
        }
        try {
          await sleep(job.data.ms || 0);
        } finally {
          if (guard) await guard.end(job);
        }
        if (tell) say({ event: "ended", queue, job: job.data.n, at: Date.now(), attempts: job.attemptsMade });
      },
      { connection: new IORedis(url, { maxRetriesPerRequest: null }).on("error", () => {}), concurrency },
    );
    worker.on("error", () => {});
    workers.set(queue, worker);
    await worker.waitUntilReady();
  },
  async stopWork({ queue }) {
    await workers.get(queue).close();
  },
  // Adds jobs {data, opts, at}: each `at` ms after the start, in order, on this process's clock.
  async play({ jobs }) {
    const start = Date.now();
    for (const job of jobs) {
      const wait = start + job.at - Date.now();
      if (wait > 0) await sleep(wait);
      queueOf(job.queue).add("job", job.data, { removeOnComplete: 1000, ...job.opts });
    }
  },
};

readline
  .createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const ask = JSON.parse(line);
    try {
      say({ id: ask.id, ok: true, value: await acts[ask.do](ask) });
    } catch (error) {
      say({ id: ask.id, error: String(error.stack || error) });
    }
  })
  .on("close", () => process.exit(0));
say({ ready: true });
