// An application's side of BullMQ in the lab: producers and workers of one major version.
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
const interruptible = new Map();
const hasYielded = new Set();
const WORTH_INTERRUPTING_MS = 1000;
const helper = process.argv[3] ? require(path.resolve(process.argv[3])) : null;

function queueOf(name) {
  if (!queues.has(name)) {
    const queue = new Queue(name, { connection });
    queue.on("error", () => {});
    queues.set(name, queue);
  }
  return queues.get(name);
}

// Works for so long; whether it was asked to yield meanwhile.
function interrupted(queue, ms) {
  if (ms < WORTH_INTERRUPTING_MS) return sleep(ms);
  const asked = new Promise((done) => interruptible.set(queue, [...(interruptible.get(queue) || []), done]));
  return Promise.race([sleep(ms), asked]);
}

const acts = {
  // What the application's own release hook does: long jobs go back to `delayed`.
  yieldNow({ queue }) {
    for (const done of interruptible.get(queue) || []) done(true);
    interruptible.delete(queue);
  },
  async add({ queue, jobs }) {
    await queueOf(queue).addBulk(jobs.map((job) => ({ name: "job", data: job.data || job, opts: job.opts || {} })));
  },
  pause: ({ queue }) => queueOf(queue).pause(),
  resume: ({ queue }) => queueOf(queue).resume(),
  isPaused: ({ queue }) => queueOf(queue).isPaused(),
  counts: ({ queue }) => queueOf(queue).getJobCounts(),
  async work({ queue, concurrency = 1, lane, tell = true }) {
    const isAway = (error) => error.cause !== undefined; // fetch: its server did not answer
    const guard = lane && helper ? helper.lane(connection, { lane, DelayedError, isAway }) : null;
    const work = async (job, token, began) => {
      if (tell) say({ event: "began", queue, job: job.data.n, at: began });
      const failed = fails.get(job.id) || 0;
      if (failed < (job.data.fails || 0)) {
        fails.set(job.id, failed + 1);
        throw new Error("as asked");
      }
      const post = job.data.post && { method: "POST", body: JSON.stringify(job.data.post) };
      if (job.data.url) await (await fetch(job.data.url, post)).text();
      // One that has yielded goes on from where it was, which is its end here.
      if (!hasYielded.has(job.id) && (await interrupted(queue, job.data.ms || 0))) {
        hasYielded.add(job.id);
        await job.moveToDelayed(Date.now() + WORTH_INTERRUPTING_MS, token);
        throw new DelayedError();
      }
      if (tell) say({ event: "ended", queue, job: job.data.n, at: Date.now(), attempts: job.attemptsMade });
    };
    const worker = new Worker(
      queue,
      // Both instants are on this machine's clock.
      (job, token) =>
        guard ? guard.run(job, token, (began) => work(job, token, began)) : work(job, token, Date.now()),
      { connection: new IORedis(url, { maxRetriesPerRequest: null }).on("error", () => {}), concurrency },
    );
    worker.on("error", () => {});
    workers.set(queue, worker);
    await worker.waitUntilReady();
  },
  async stopWork({ queue }) {
    await workers.get(queue).close();
  },
  // Adds jobs {queue, data, opts, at}: each `at` ms after the start, on this process's clock. Those of
  // one slot go in one request, so that the producer leaves the cores to others.
  async play({ jobs, slotMs = 20 }) {
    const start = Date.now();
    const slots = new Map();
    for (const job of jobs) {
      const slot = Math.floor(job.at / slotMs);
      if (!slots.has(slot)) slots.set(slot, new Map());
      const queues = slots.get(slot);
      if (!queues.has(job.queue)) queues.set(job.queue, []);
      queues.get(job.queue).push({ name: "job", data: job.data, opts: { removeOnComplete: 1000, ...job.opts } });
    }
    for (const [slot, queues] of [...slots].sort((one, other) => one[0] - other[0])) {
      const wait = start + slot * slotMs - Date.now();
      if (wait > 0) await sleep(wait);
      for (const [queue, bulk] of queues) await queueOf(queue).addBulk(bulk);
    }
    return start;
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
