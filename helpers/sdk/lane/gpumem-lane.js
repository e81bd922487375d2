// For workers of BullMQ on Node: wait for the lane before a job's work begins.
//
//   const { DelayedError } = require("bullmq");
//   const guard = require("./gpumem-lane").lane(connection, { lane: "batch", DelayedError });
//   new Worker("ai-batch", (job, token) => guard.run(job, token, async () => { ... }), { connection });
//
// Batch: a job that finds its lane closed goes back to `delayed`, which uses up none of its attempts.
// Realtime: it waits until batch jobs that still run have ended; while the card is away it fails with
// `Unavailable`, whose message and retryAfterSeconds are for the user. Without a coordinator (its
// documents have ended) jobs begin as if this were not here.
//
// Until the coordinator has seen that a card is away, jobs meet a dead server: with `isAway: (error) =>
// error.code === "ECONNREFUSED"` (whatever the application's client throws then) a batch job goes back as
// well, with all its attempts, and comes again after the estate's batch_retry_seconds.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const BEGIN = fs.readFileSync(path.join(__dirname, "begin.lua"), "utf8");
const LONGEST_JOB_MS = 3600 * 1000;
const LONGEST_DELAYED_MS = 7 * 24 * 3600 * 1000;
const POLL_MS = 50;
// The estate's defaults, for the time in which no coordinator says anything.
const AWAY_RETRY_SECONDS = 300;
const RETRY_AFTER_SECONDS = 30;
const UNAVAILABLE = "AI service temporarily unavailable";
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

class Unavailable extends Error {
  constructor(message, retryAfterSeconds) {
    super(message);
    this.name = "Unavailable";
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

// connection: an ioredis; waiting(seconds): told while a realtime job waits (null: nobody knows how long).
function lane(
  connection,
  { lane: name, DelayedError, maxWaitMs = 120000, waiting = () => {}, isAway = () => false },
) {
  const key = `gpumem:lane:${name}`;
  const running = `gpumem:running:${name}`;
  const read = async () => JSON.parse((await connection.get(key)) || "null");

  async function waitForRunning(document) {
    const until = Date.now() + maxWaitMs;
    for (let told; document; document = await read()) {
      if (!document.open) throw new Unavailable(document.message || document.reason, document.retry_after_seconds);
      const lengths = await Promise.all(document.waits_for.map((base) => connection.llen(`${base}:active`)));
      if (!lengths.some((length) => length > 0)) return;
      if (Date.now() > until) throw new Unavailable("a batch job still holds the card", document.retry_after_seconds);
      if (told !== document.wait_seconds) waiting((told = document.wait_seconds));
      await sleep(POLL_MS);
    }
  }

  // When it began, on Redis's clock in milliseconds.
  async function begin(job, token) {
    const document = await read();
    if (document && document.waits_for) await waitForRunning(document);
    const [began, when] = await connection.eval(BEGIN, 2, key, running, job.id, LONGEST_JOB_MS);
    if (job.attemptsStarted === undefined) await giveAttemptsBack(job, began !== 1);
    if (began === 1) return when;
    await job.moveToDelayed(Date.now() + when, token);
    throw new DelayedError();
  }

  // BullMQ 4 counts every start as an attempt (5 and 6 keep the two apart): what was only put back is
  // counted in a key of our own, and taken off again before the worker looks at the number.
  async function giveAttemptsBack(job, putBack) {
    const backs = `gpumem:put-back:${name}:${job.id}`;
    if (putBack) await connection.multi().incr(backs).pexpire(backs, LONGEST_DELAYED_MS).exec();
    else job.attemptsMade -= Number((await connection.get(backs)) || 0);
  }

  const end = (job) => connection.zrem(running, job.id);

  // The work has met a server that is not there: batch goes back, realtime tells the user.
  async function away(job, token) {
    const document = (await read()) || {};
    if (document.waits_for) throw new Unavailable(UNAVAILABLE, document.retry_after_seconds || RETRY_AFTER_SECONDS);
    if (job.attemptsStarted === undefined) await giveAttemptsBack(job, true);
    const seconds = document.away_retry_seconds || AWAY_RETRY_SECONDS;
    await job.moveToDelayed(Date.now() + seconds * 1000, token);
    throw new DelayedError();
  }

  // `work` is told when it began, as `begin` says it.
  async function run(job, token, work) {
    const when = await begin(job, token);
    try {
      return await work(when);
    } catch (error) {
      if (!isAway(error)) throw error;
      return await away(job, token);
    } finally {
      await end(job);
    }
  }
  return { begin, end, run };
}

module.exports = { lane, Unavailable };
