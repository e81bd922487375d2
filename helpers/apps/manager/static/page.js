// The page of the GPU manager. It asks the API with the caller's own token and draws what it may see.
// Every text goes into the document as text, never as markup.
"use strict";

const KEY = "gpumem-token"; // in sessionStorage: of this tab, and gone with it
const API = "api/v1/gpu/";
const LOOK_MS = 2000, LONGEST_LOOK_MS = 30000, PAGE_COUNT = 100;
const OPEN = ["pending", "queued", "provisioning", "running", "preempted"];
const OVER = ["completed", "failed", "cancelled"];
const $ = (id) => document.getElementById(id);
const state = { jobs: [], next: "", sequence: 0, projects: [], hues: new Map(), now: null, open: null, opener: null, timer: 0, run: 0 };

class Refused extends Error {
  constructor(status, errors) {
    super(errors.map((one) => `${one.rule}; ${one.repair}`).join("\n") || `status ${status}`);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` };
  const answer = await fetch(API + path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
  if (answer.ok) return options.text ? answer.text() : answer.json();
  const found = await answer.json().catch(() => ({ errors: [] }));
  throw new Refused(answer.status, found.errors ?? []);
}

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// --- words and numbers

const usd = (amount) => (amount === null || amount === undefined ? "unknown" : amount.toLocaleString("en", { style: "currency", currency: "USD" }));
const count = (amount) => amount.toLocaleString("en", { maximumFractionDigits: 2 });
const instant = (text) => (text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : "");

function span(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole || parts.length) parts.push(`${whole}${unit}`);
    if (parts.length === 2) break;
  }
  return parts.filter((part) => !part.startsWith("0")).join(" ") || "0s";
}

function gpus(job) {
  const wanted = job.gpu_requirements;
  let text = `${wanted.gpu_count} × ${wanted.gpu_type}` + (wanted.gpu_memory_gb ? ` ${wanted.gpu_memory_gb} GB` : "");
  if (wanted.gpu_memory_mib) text = `${count(wanted.gpu_memory_mib)} MiB of ${wanted.gpu_type}`;
  if (wanted.mig_profile) text = `${wanted.gpu_count} × ${wanted.mig_profile} of ${wanted.gpu_type}`;
  return job.workers > 1 ? `${job.workers} × (${text})` : text;
}

function hue(project) {
  if (project === null) return null; // other people's
  if (!state.hues.has(project)) state.hues.set(project, state.hues.size % 8);
  return state.hues.get(project);
}

// --- jobs

function filters() {
  const form = new FormData($("filters"));
  return Object.fromEntries(["state", "project", "priority", "text"].map((name) => [name, form.get(name) ?? ""]));
}

function wanted(cursor) {
  const { state: which, project, priority } = filters();
  const query = new URLSearchParams({ limit: String(Math.max(PAGE_COUNT, cursor ? 0 : Math.min(500, state.jobs.length))) });
  for (const status of { open: OPEN, over: OVER, all: [] }[which]) query.append("status", status);
  if (project) query.set("project_id", project);
  if (priority) query.set("priority", priority);
  if (cursor) query.set("cursor", cursor);
  return `jobs?${query}`;
}

async function loadJobs({ more = false } = {}) {
  const chosen = () => { const { text: _, ...rest } = filters(); return JSON.stringify(rest); };
  const before = chosen(), cursor = more ? state.next : "";
  const page = await ask(wanted(cursor));
  if (chosen() !== before) return; // the filter changed meanwhile, and asks by itself
  if (more && state.next !== cursor) return loadJobs({ more }); // the list was read again meanwhile
  state.jobs = more ? [...state.jobs, ...page.jobs] : page.jobs;
  state.next = page.next_cursor;
  drawJobs();
}

function row(job) {
  const open = el("button", { type: "button", class: "name", onclick: (event) => openJob(job.job_id, event.currentTarget) }, job.job_name);
  const age = state.now ? span((state.now - new Date(job.created_at)) / 1000) : "";
  return el("tr", { "data-job": job.job_id, "data-status": job.status },
    el("td", {}, open, el("span", { class: "id" }, job.job_id)),
    el("td", {}, el("span", { class: "swatch", "data-hue": hue(job.project_id) }, job.project_id)),
    el("td", {}, el("span", { class: `state ${job.status}` }, job.status)),
    el("td", {}, gpus(job)),
    el("td", {}, job.priority),
    el("td", { class: "n", "data-label": "Place" }, job.queue_position === null ? "" : String(job.queue_position)),
    el("td", { class: "n", "data-label": "Age" }, age),
    el("td", { class: "n", "data-label": "Cost" }, usd(job.cost_usd)));
}

function drawJobs() {
  const text = filters().text.trim().toLowerCase();
  const found = state.jobs.filter((job) => !text || [job.job_name, job.job_id, job.submitted_by].some((one) => one.toLowerCase().includes(text)));
  const rows = $("rows");
  const before = new Map([...rows.children].map((line) => [line.dataset.job, line.dataset.status]));
  const focused = document.activeElement?.closest?.("#rows tr")?.dataset.job;
  rows.replaceChildren(...found.map((job) => {
    const line = row(job);
    if (before.size && before.get(job.job_id) !== job.status) line.classList.add("fresh");
    return line;
  }));
  if (focused) rows.querySelector(`[data-job="${CSS.escape(focused)}"] .name`)?.focus({ preventScroll: true });
  $("more").hidden = !state.next;
  $("no-jobs").hidden = found.length > 0;
  $("no-jobs").textContent = text ? `None of the ${state.jobs.length} jobs shown matches “${text}”.` : "No such jobs.";
  const label = `${found.length}${state.next ? " newest" : ""} ${found.length === 1 ? "job" : "jobs"}`;
  if ($("jobs-count").textContent !== label) $("jobs-count").textContent = label;
}

// --- queues, projects, cards, cost

function meter({ name, amount, hint, ratio, full = false, project }) {
  const bar = el("i");
  bar.style.width = `${Math.min(100, 100 * ratio)}%`;
  return el("li", { "data-hue": project === undefined ? null : hue(project) },
    el("span", project === undefined ? {} : { class: "swatch", "data-hue": hue(project) }, name), el("span", { class: "amount" }, amount),
    ratio === null ? null : el("span", { class: full ? "track full" : "track", "aria-hidden": "true" }, bar),
    hint ? el("span", { class: "hint" }, hint) : null);
}

function drawQueues(found) {
  state.now = new Date(found.looked_at);
  $("engine").hidden = false;
  $("engine").textContent = `${found.engine} · ${found.policy.replace("_", " ")}`;
  const pools = found.queues;
  const sum = (name) => pools.reduce((all, pool) => all + pool[name], 0);
  const whole = pools.filter((pool) => !pool.pool.includes("/"));
  const held = whole.reduce((all, pool) => all + pool.held, 0);
  const all = whole.some((pool) => pool.capacity === null) ? null : whole.reduce((so, pool) => so + pool.capacity, 0);
  $("n-running").textContent = count(sum("running_count"));
  $("n-waiting").textContent = count(sum("waiting_count"));
  $("n-cards").replaceChildren(count(held), el("small", {}, all === null ? "" : ` of ${count(all)}`));
  $("n-wait").textContent = sum("waiting_count") ? span(Math.max(...pools.map((pool) => pool.longest_wait_seconds))) : "none";
  const unit = (pool) => (pool.pool.endsWith("/mib") ? " MiB" : "");
  $("queues").replaceChildren(...pools.map((pool) => meter({
    name: pool.pool.replace(/\/mib$/, " shared"),
    amount: (pool.capacity === null ? `${count(pool.held)} held` : `${count(pool.held)} of ${count(pool.capacity)}`) + unit(pool),
    ratio: pool.capacity ? pool.held / pool.capacity : 0,
    hint: pool.waiting_count ? `${count(pool.waiting_count)} waiting, ${count(pool.own_waiting_count)} of them yours, longest ${span(pool.longest_wait_seconds)}` : "nobody waits",
  })));
}

function drawProjects(found) {
  state.projects = found.quotas.map((one) => one.project_id);
  const spent = found.quotas.reduce((all, one) => all + one.spent_usd_this_month, 0);
  $("n-spent").textContent = usd(spent);
  const select = $("filters").elements.project, chosen = select.value || select.dataset.wanted || "";
  if ([...select.options].slice(1).map((one) => one.value).join() !== state.projects.join()) {
    select.replaceChildren(el("option", { value: "" }, "All"), ...state.projects.map((name) => el("option", {}, name)));
    select.value = state.projects.includes(chosen) ? chosen : "";
  }
  $("projects").replaceChildren(...found.quotas.map((one) => {
    const budget = one.budget_usd_per_month, ratio = budget ? one.spent_usd_this_month / budget : null;
    const quota = one.gpu_quota_count === null ? "" : ` of ${count(one.gpu_quota_count)}`;
    return meter({
      name: one.project_id,
      project: one.project_id,
      amount: usd(one.spent_usd_this_month) + (budget ? ` of ${usd(budget)}` : ""),
      ratio,
      full: ratio !== null && ratio >= 0.8,
      hint: `${count(one.gpus_held)}${quota} cards held, ${count(one.waiting_count)} waiting, weight ${count(one.weight)}`,
    });
  }));
}

function card(parts, index) {
  const used = parts.reduce((all, part) => all + part.ratio, 0);
  const names = parts.map((part) => `${part.job_id ?? "another project's job"} ${Math.round(100 * part.ratio)} %`);
  const text = `Card ${index}: ${names.join(", ") || "free"}`;
  return el("span", { class: "card", role: "img", "aria-label": text, title: text, "data-used": used.toFixed(3) }, ...parts.map((part) => {
    const bar = el("i", { "data-hue": hue(part.project_id) });
    bar.style.height = `${100 * part.ratio}%`;
    return bar;
  }));
}

function drawCards(found) {
  $("no-cards").hidden = found !== null && found.nodes.length > 0;
  $("no-cards").textContent = found === null ? "This manager has no cluster to look at." : "No node has cards now.";
  $("cards").replaceChildren(...(found?.nodes ?? []).map((node) => {
    const held = node.cards.reduce((all, parts) => all + parts.reduce((sum, part) => sum + part.ratio, 0), 0);
    return el("li", {},
      el("div", { class: "top" }, el("span", {}, node.node), el("span", { class: "hint" }, `${node.gpu} · ${count(held)} of ${node.cards.length}`)),
      el("div", { class: "seats" }, ...node.cards.map(card)));
  }));
}

function drawCost(found) {
  const SVG = "http://www.w3.org/2000/svg", width = 308, height = 150, left = 34, bottom = 16;
  const put = (parent, tag, attributes, text) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  };
  const steps = found.projects[0]?.cost_usd.length ?? 0;
  const sums = Array.from({ length: steps }, (_, step) => found.projects.reduce((all, one) => all + one.cost_usd[step], 0));
  const most = Math.max(...sums, 0), total = sums.reduce((all, one) => all + one, 0);
  const unit = 10 ** Math.floor(Math.log10(most || 1)), top = [1, 2, 5, 10].map((one) => one * unit).find((one) => one >= most) || 1;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height + bottom}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${usd(total)} in ${steps} days, at most ${usd(most)} on one`);
  for (const part of [0, 0.5, 1]) {
    const y = height - part * (height - 8);
    put(svg, "line", { x1: left, x2: width, y1: y, y2: y });
    put(svg, "text", { x: left - 6, y: y + 3, "text-anchor": "end" }, count(part * top));
  }
  const wide = (width - left) / Math.max(1, steps);
  for (let step = 0; step < steps; step += 1) {
    const day = new Date(new Date(found.from_at).getTime() + (step + 1) * found.step_seconds * 1000).toISOString().slice(5, 10);
    let y = height;
    for (const one of found.projects) {
      const tall = (one.cost_usd[step] / top) * (height - 8);
      y -= tall;
      if (tall > 0) put(put(svg, "rect", { x: left + step * wide + 2, y, width: wide - 4, height: tall, "data-hue": hue(one.project_id) }), "title", {}, `${day} ${one.project_id}: ${usd(one.cost_usd[step])}`);
    }
    if (step % 4 === (steps - 1) % 4) put(svg, "text", { x: left + (step + 0.5) * wide, y: height + 13, "text-anchor": "middle" }, day);
  }
  const known = found.projects.every((one) => one.cost_complete);
  $("cost-hint").textContent = `USD a day, by project${known ? "" : "; something has no price"}`;
  $("cost").replaceChildren(svg, el("div", { class: "legend" }, ...found.projects.map((one) => el("span", { class: "swatch", "data-hue": hue(one.project_id) }, one.project_id))));
}

// --- one job

async function openJob(id, opener) {
  state.open = id;
  state.opener = opener ?? state.opener;
  $("job-title").textContent = "";
  $("job-body").replaceChildren(el("p", { class: "hint" }, "Loading…"));
  if (!$("job").open) $("job").showModal();
  await drawJob().catch((error) => $("job-body").replaceChildren(el("p", { class: "problem", role: "alert" }, error.message)));
}

async function drawJob() {
  const id = state.open;
  const path = `jobs/${encodeURIComponent(id)}`;
  const [job, history] = await Promise.all([ask(path), ask(`${path}/events?limit=500`)]);
  if (state.open !== id) return;
  const cost = `${usd(job.cost_usd)}` + (job.estimated_cost_usd === null ? "" : ` of about ${usd(job.estimated_cost_usd)} (${job.estimate.cost_confidence} confidence)`);
  const facts = {
    Project: job.project_id, GPUs: gpus(job), Priority: job.priority, Capacity: `${job.capacity_type}, attempt ${job.attempt_count}`,
    "Submitted by": job.submitted_by, Submitted: instant(job.created_at),
    Place: job.queue_position === null ? "" : String(job.queue_position),
    Starts: job.estimated_start_time ? `about ${instant(job.estimated_start_time)} (${job.estimate.start_confidence} confidence)` : "",
    Started: instant(job.started_at), Ended: instant(job.ended_at), Reason: job.reason, Cost: cost,
    Image: job.container.image, Command: job.container.command.join(" "),
  };
  const logs = el("pre", { tabindex: "0", "aria-label": "Output", hidden: true });
  const problem = el("p", { class: "problem", role: "alert" });
  const showLogs = async () => {
    logs.textContent = await ask(`${path}/logs?tail_lines=500`, { text: true }).catch((error) => error.message);
    logs.hidden = false;
    logs.scrollTop = logs.scrollHeight;
  };
  const cancel = el("button", { type: "button", class: "danger", onclick: async () => {
    if (cancel.dataset.sure === undefined) {
      cancel.dataset.sure = "";
      cancel.textContent = "Cancel it for good";
      return;
    }
    try {
      await ask(path, { method: "DELETE" });
      await Promise.all([drawJob(), loadJobs()]);
    } catch (error) { problem.textContent = error.message; }
  } }, "Cancel the job");
  $("job-title").textContent = job.job_name;
  $("job-body").replaceChildren(
    el("p", {}, el("span", { class: `state ${job.status}` }, job.status), " ", el("span", { class: "id hint" }, job.job_id)),
    el("dl", {}, ...Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: showLogs }, "Show output"),
      OPEN.includes(job.status) ? cancel : null, problem),
    logs,
    el("section", {}, el("h2", {}, "History"), el("div", { class: "history" }, ...history.events.map((one) =>
      el("div", {}, el("strong", {}, one.kind), ` ${one.message}`, el("div", { class: "hint" }, `${instant(one.at)} · ${one.actor}`))))));
}

// --- the loop

// `first`: the others need the clock, the projects and their colours from it.
const turns = [
  { every: 2, first: true, run: async () => drawQueues(await ask("queues")) },
  { every: 5, first: true, run: async () => drawProjects(await ask("quotas")) },
  { every: 3, run: async () => drawCards(await ask("cards").catch((error) => { if (error.status === 404) return null; throw error; })) },
  { every: 30, run: async () => drawCost(await ask("spending")) },
];

// Whether anything happened since the last look. What it was is read from the jobs themselves.
async function changed() {
  const { events } = await ask(`events?after=${state.sequence}&limit=1&latest=true`);
  if (events.length) state.sequence = events[0].sequence;
  return events.length > 0;
}

async function look(turn, run = (state.run += 1)) {
  clearTimeout(state.timer);
  let pause = LOOK_MS;
  try {
    const due = turns.filter(({ every }) => turn % every === 0);
    await Promise.all(due.filter(({ first }) => first).map((one) => one.run()));
    const jobs = async () => {
      if (!(await changed()) && turn % 15 !== 0) return;
      // A button that somebody is about to press stays where it is.
      const quiet = $("job").open && !document.activeElement?.closest(".actions");
      await Promise.all([loadJobs(), quiet ? drawJob() : null]);
    };
    await Promise.all([jobs(), ...due.filter(({ first }) => !first).map((one) => one.run())]);
    show("Live", false);
    state.lost = 0;
  } catch (error) {
    if (run !== state.run) return;
    if (error.status === 401) return door("The manager does not know this token.");
    state.lost = (state.lost ?? 0) + 1;
    pause = Math.min(LONGEST_LOOK_MS, LOOK_MS * 2 ** state.lost);
    show(error instanceof Refused ? error.message : "No answer; trying again", true);
  }
  if (run !== state.run) return; // somebody looked anew meanwhile
  // Nobody looks at a tab in the background.
  state.timer = setTimeout(() => look(turn + 1, run), document.hidden ? LONGEST_LOOK_MS : pause);
}

function show(text, lost) {
  if ($("live").textContent !== text) $("live").textContent = text;
  $("live").classList.toggle("lost", lost);
}

// --- the door and the keys

function door(problem = "") {
  clearTimeout(state.timer);
  state.run += 1; // what is on its way is not drawn any more
  sessionStorage.removeItem(KEY);
  if ($("job").open) $("job").close();
  $("board").hidden = $("leave").hidden = $("engine").hidden = true;
  $("door").hidden = false;
  $("door-problem").textContent = problem;
  show("", false);
  $("token").focus();
}

function enter() {
  $("door").hidden = true;
  $("board").hidden = $("leave").hidden = false;
  Object.assign(state, { jobs: [], next: "", sequence: 0, hues: new Map() });
  look(0);
}

function remember() {
  const { text: _, ...kept } = filters();
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1)), form = $("filters").elements;
  if (["open", "over", "all"].includes(kept.get("state"))) form.state.value = kept.get("state");
  if (kept.get("priority")) form.priority.value = kept.get("priority");
  form.project.dataset.wanted = kept.get("project") ?? "";
}

$("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("token").value.trim());
  $("token").value = "";
  enter();
  $("jobs").focus();
});
$("leave").addEventListener("click", () => door());
$("more").addEventListener("click", () => loadJobs({ more: true }).catch((error) => show(error.message, true)));
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", (event) => {
  if (event.target.name === "text") return drawJobs();
  delete $("filters").elements.project.dataset.wanted;
  remember();
  state.jobs = [];
  loadJobs().catch((error) => show(error.message, true));
});
$("job-close").addEventListener("click", () => $("job").close());
$("job").addEventListener("click", (event) => { if (event.target === $("job")) $("job").close(); });
$("job").addEventListener("close", () => {
  const id = state.open;
  state.open = null;
  // The row was drawn again meanwhile, so the button is another one.
  ($("rows").querySelector(`[data-job="${CSS.escape(id ?? "")}"] .name`) ?? state.opener)?.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || $("board").hidden || $("job").open) return;
  const typing = event.target.matches("input:not([type=radio]), select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("filters").elements.text.focus();
  } else if (["ArrowDown", "ArrowUp"].includes(event.key) && event.target.matches(".name")) {
    event.preventDefault();
    const names = [...document.querySelectorAll("#rows .name")];
    names[names.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
  } else if (event.key === "Escape" && event.target.name === "text") {
    event.target.value = "";
    drawJobs();
  }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !$("board").hidden) look(0); });

recall();
if (sessionStorage.getItem(KEY)) enter();
else door();
