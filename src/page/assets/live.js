// The server: what it tells, and what it is asked to do.

const token = document.querySelector('meta[name="plandag-token"]')?.content ?? "";
const address = () => `/api/runs/${encodeURIComponent(run.head.run)}`;

const complain = ({ title, detail, code }) =>
  say(find("message"), [title, detail].filter(Boolean).join(": ") + (code ? ` [${code}]` : ""));

// What the server answers; undefined if it refuses, which is said.
async function ask(method, path, body) {
  complain({});
  try {
    const answer = await fetch(address() + path, {
      method,
      headers: { "Content-Type": "application/json", "X-Plandag-Token": token },
      body: method === "POST" ? JSON.stringify(body ?? {}) : undefined,
    });
    const type = answer.headers.get("Content-Type") ?? "";
    const said = type.includes("json") ? await answer.json() : {};
    if (answer.ok) return said;
    complain({ title: `the server refuses (${answer.status})`, ...said });
  } catch (error) {
    complain({ title: "the server does not answer", detail: error.message });
  }
  return undefined;
}

// Follows the run while somebody sees it: a browser has six connections for a server, and each page that follows takes
// one. The browser connects anew by itself; the first thing it is told then is the whole run.
let source = null;
const connection = (text) => say(find("connection"), text);
const showLive = () => connection(source && isRunning() ? "● live" : "");
const close = () => {
  source?.close();
  source = null;
  showLive();
};
function follow() {
  if (source || document.hidden) return;
  source = new EventSource(`${address()}/events`);
  source.addEventListener("open", showLive);
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) return connection("○ connecting …");
    // It has answered, and does not let this page in: it is another one by now.
    close();
    complain({ title: "the server was started anew", detail: "open the address that it printed then" });
  });
  source.addEventListener("snapshot", (event) => showNews(() => take(JSON.parse(event.data))));
  source.addEventListener("update", (event) => showNews(() => showUpdate(merge(JSON.parse(event.data)))));
  source.addEventListener("problem", (event) => {
    close();
    complain(JSON.parse(event.data));
  });
  source.addEventListener("end", close);
}

// A run that has stopped has no more time than it took, and one that goes on has.
function showNews(show) {
  const wasRunning = isRunning();
  show();
  if (wasRunning !== isRunning()) drawTimeline();
  showLive();
}

// A whole snapshot may be the first, or come after the connection was lost.
function take(snapshot) {
  const old = run;
  run = snapshot;
  const steps = run.steps.filter((it) => JSON.stringify(it) !== JSON.stringify(old.steps[it.number]));
  const isRedrawn = JSON.stringify([old.layout, old.unfolded]) !== JSON.stringify([run.layout, run.unfolded]);
  showUpdate({ steps, onPath: [...old.critical, ...run.critical], isRedrawn, isReplanned: true });
}

// Says aloud what somebody should know.
const told = new Map();
function announce(steps) {
  const news = steps.filter((it) => ["failed", "unknown", "unapproved"].includes(it.state) && told.get(it.number) !== it.state);
  for (const it of news) told.set(it.number, it.state);
  if (news.length > 0) say(find("news"), news.map((it) => `${it.id} ${it.state}${it.error ? `: ${it.error.text}` : ""}`).join("; "));
}

// Whoever comes back sees the run as it is then; somebody may have gone on with it elsewhere.
document.addEventListener("visibilitychange", () => {
  if (!isLive) return;
  if (document.hidden) close();
  else if (!isOver(run.head.state)) follow();
});

// The title of a tab says how its run is, although nobody sees more of it.
let glimpsed = "";
async function glance() {
  if (!document.hidden || isOver(glimpsed) || isOver(run.head.state)) return;
  const answer = await fetch(`/api/runs?run=${encodeURIComponent(run.head.run)}`).catch(() => null);
  const [it] = answer?.ok ? (await answer.json()).runs : [];
  if (!it || !document.hidden) return;
  glimpsed = it.status;
  showTitle(glimpsed);
}
if (isLive) setInterval(glance, 5000);

// As Ctrl-C: the first time what runs may still finish, the second time it is ended.
let isStopping = false;
async function cancel() {
  find("cancel").disabled = true;
  const answer = await ask("POST", "/cancel", { now: isStopping });
  find("cancel").disabled = false;
  isStopping = answer?.status === "stopping";
  showCancel();
}

function showCancel() {
  isStopping &&= isRunning();
  say(find("cancel"), isStopping ? "Stop now" : "Cancel");
  find("cancel").hidden = !isRunning();
}

// What makes a run that has stopped go on, which is then followed again.
async function goOn(path, body) {
  const answer = await ask("POST", path, body);
  if (answer) follow();
  return answer;
}

async function retry() {
  const answer = await ask("POST", "/retry");
  if (answer) location.assign(`/runs/${encodeURIComponent(answer.run)}`);
}
