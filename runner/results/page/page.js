"use strict";
const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const table = byId("jobs"), head = table.tHead.rows[0], body = table.tBodies[0], end = byId("end");
const search = byId("search"), chips = [...document.querySelectorAll(".chip")];
const jobs = data.jobs.map(([name, state, seconds, time, started, place, values, files, message], number) => (
  { number: number + 1, name, state, seconds, time, started, place, values, files, message }));
const has = key => jobs.some(job => job[key] !== "" && job[key] !== null);
const isPicture = file => file[3];
const pictures = jobs.some(job => job.files.some(isPicture));
const isNumeric = index => jobs.some(job => typeof job.values[index] === "number");
const columns = [
  { kind: "name", title: "Job", key: job => job.number },
  { kind: "state", title: "State", key: job => job.state },
  { kind: "time", title: "Time", key: job => job.seconds, numeric: true, shown: has("seconds") },
  { kind: "text", title: "Node", key: job => job.place, shown: has("place") },
  ...data.values.map((title, index) => (
    { kind: "text", title, key: job => job.values[index], numeric: isNumeric(index), isValue: true })),
  { kind: "pictures", title: "Pictures", shown: pictures },
  { kind: "files", title: "Files", shown: jobs.some(job => !job.files.every(isPicture)) },
  { kind: "message", title: "Message", key: job => job.message, shown: has("message") },
].filter(column => column.shown !== false);
let matching = jobs, attached = 0, sorting = columns[0], isReversed = false;

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function link(file, content) {
  const made = element("a");
  made.href = file[0];
  made.title = file[2];
  made.append(content);
  return made;
}
function picture(job, file) {
  const made = element("img");
  Object.assign(made, { loading: "lazy", decoding: "async", alt: `${job.name}: ${file[1]}`, src: file[0] });
  return link(file, made);
}
function shown(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return value === null || typeof value === "string" ? value : JSON.stringify(value);
}
const cells = {
  name: job => { const made = element("th", job.name); made.scope = "row"; return made; },
  state: job => { const made = element("td"); made.append(element("span", job.state, `state ${data.classes[job.state]}`)); return made; },
  time: job => { const made = element("td", job.time, "number"); made.title = job.started && `started ${job.started}`; return made; },
  text: (job, column) => element("td", shown(column.key(job)), column.numeric ? "number" : ""),
  pictures: job => { const made = element("td", null, "pictures"); made.append(...job.files.filter(isPicture).map(file => picture(job, file))); return made; },
  files: job => {
    const made = element("td");
    job.files.filter(file => !isPicture(file)).forEach((file, place) => made.append(place ? ", " : "", link(file, file[1])));
    return made;
  },
  message: job => element("td", job.message, "message"),
};
function row(job) {
  const made = element("tr");
  made.append(...columns.map(column => cells[column.kind](job, column)));
  return made;
}
function compare(a, b) {
  const one = sorting.key(a), other = sorting.key(b);
  const noOne = one === undefined || one === null || one === "", noOther = other === undefined || other === null || other === "";
  if (noOne || noOther) return noOne - noOther || a.number - b.number;
  const order = typeof one === "string" || typeof other === "string"
    ? String(one).localeCompare(String(other), "en", { numeric: true }) : one - other;
  return (isReversed ? -order : order) || a.number - b.number;
}
function words(job) {
  return job.text ??= [job.name, job.state, job.place, ...job.values.map(shown), job.message,
    ...job.files.map(file => file[1])].join(" ").toLowerCase();
}
function arrange() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const states = chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.state);
  matching = jobs.filter(job => (!states.length || states.includes(job.state))
    && wanted.every(word => words(job).includes(word)));
  matching.sort(compare);
  body.replaceChildren();
  attached = 0;
  attach();
  byId("shown").textContent = matching.length === jobs.length ? ""
    : `${matching.length.toLocaleString("en")} of ${jobs.length.toLocaleString("en")} shown`;
  byId("none").hidden = matching.length > 0;
  draw();
}
function attach() {
  body.append(...matching.slice(attached, attached + 150).map(row));
  attached = body.children.length;
  watcher.unobserve(end);
  if (attached < matching.length) watcher.observe(end);
}
const watcher = new IntersectionObserver(
  entries => { if (entries.some(entry => entry.isIntersecting)) attach(); }, { rootMargin: "1500px" });

const axes = [{ title: "job number", key: job => job.number }, { title: "time in seconds", key: job => job.seconds },
  ...columns.filter(column => column.isValue && column.numeric)];
const canvas = byId("canvas"), xs = byId("x"), ys = byId("y");
let points = [];
function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  return low === high ? [low - 1, high + 1] : [low, high];
}
function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= rough * 0.999), first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, place) => (first + place) * step);
}
function draw() {
  if (!byId("plot").open) return;
  const x = axes[xs.value], y = axes[ys.value], scale = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight, pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue(name);
  canvas.width = width * scale;
  canvas.height = height * scale;
  pen.scale(scale, scale);
  points = matching.filter(job => [x, y].every(axis => Number.isFinite(axis.key(job)) && axis.key(job) !== null));
  canvas.setAttribute("aria-label", `Plot of ${y.title} against ${x.title}, ${points.length} jobs`);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = color("--soft");
  if (!points.length) { pen.fillText("No job has both values.", 20, 30); return; }
  const [left, right] = range(points.map(x.key)), [low, high] = range(points.map(y.key));
  const area = { left: 70, right: width - 28, top: 14, bottom: height - 40 };
  const across = value => area.left + (value - left) / (right - left) * (area.right - area.left);
  const up = value => area.bottom - (value - low) / (high - low) * (area.bottom - area.top);
  for (const job of points) { job.x = across(x.key(job)); job.y = up(y.key(job)); }
  pen.strokeStyle = color("--line");
  const line = (...ends) => { pen.beginPath(); pen.moveTo(ends[0], ends[1]); pen.lineTo(ends[2], ends[3]); pen.stroke(); };
  pen.strokeRect(area.left, area.top, area.right - area.left, area.bottom - area.top);
  pen.textAlign = "right";
  for (const value of ticks(low, high)) {
    line(area.left, up(value), area.right, up(value));
    pen.fillText(shown(value), area.left - 6, up(value) + 4);
  }
  pen.textAlign = "center";
  for (const value of ticks(left, right)) {
    line(across(value), area.top, across(value), area.bottom);
    pen.fillText(shown(value), across(value), area.bottom + 15);
  }
  pen.fillText(x.title, (area.left + area.right) / 2, height - 8);
  for (const job of points) {
    pen.fillStyle = color(data.classes[job.state] === "bad" ? "--bad" : "--busy");
    pen.beginPath(); pen.arc(job.x, job.y, points.length > 2000 ? 2 : 4, 0, 7); pen.fill();
  }
}
canvas.addEventListener("pointermove", event => {
  let nearest = null, best = 400;
  for (const job of points) {
    const distance = (job.x - event.offsetX) ** 2 + (job.y - event.offsetY) ** 2;
    if (distance < best) { best = distance; nearest = job; }
  }
  byId("point").textContent = nearest
    ? `${nearest.name}: ${shown(axes[xs.value].key(nearest))}, ${shown(axes[ys.value].key(nearest))}` : "";
});
function plot() {
  for (const select of [xs, ys]) select.append(...axes.map((axis, index) => {
    const made = element("option", axis.title);
    made.value = index;
    return made;
  }));
  xs.value = axes.length > 2 ? 2 : 0;
  ys.value = axes.length > 3 ? axes.length - 1 : 1;
  for (const select of [xs, ys]) select.addEventListener("change", draw);
  byId("plot").addEventListener("toggle", draw);
  byId("plot").hidden = jobs.length < 2;
  byId("plot").open = axes.length > 2;
  addEventListener("resize", draw);
}
head.append(...columns.map(column => {
  const made = element("th", column.key ? null : column.title, column.key ? column.numeric && "number" : "plain");
  made.scope = "col";
  if (!column.key) return made;
  const button = element("button", column.title);
  button.type = "button";
  button.addEventListener("click", () => {
    isReversed = sorting === column && !isReversed;
    sorting = column;
    for (const other of head.cells) other.removeAttribute("aria-sort");
    made.setAttribute("aria-sort", isReversed ? "descending" : "ascending");
    arrange();
  });
  made.append(button);
  return made;
}));
for (const chip of chips) chip.addEventListener("click", () => {
  chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
  arrange();
});
search.addEventListener("input", arrange);
byId("gallery").addEventListener("change", event => table.classList.toggle("gallery", event.target.checked));
byId("gallery-label").hidden = !pictures;
byId("controls").hidden = false;
plot();
arrange();
