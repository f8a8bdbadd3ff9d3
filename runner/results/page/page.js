"use strict";
const list = document.getElementById("jobs"), search = document.getElementById("search");
const sort = document.getElementById("sort"), reverse = document.getElementById("reverse");
const rows = document.getElementById("rows"), end = document.getElementById("end");
const chips = [...document.querySelectorAll(".chip")];
const jobs = [...list.children, ...document.getElementById("rest").content.children].map((node, place) => ({
  node, place, state: node.dataset.state, time: node.dataset.time === "" ? null : Number(node.dataset.time) }));
let matching = jobs, attached = 0;
function text(job) { return job.text ??= job.node.textContent.toLowerCase(); }
function values(job) { return job.values ??= JSON.parse(job.node.dataset.values); }
function key(job) {
  if (sort.value === "state") return job.state;
  if (sort.value === "time") return job.time;
  return sort.value ? values(job)[sort.value.slice(2)] : job.place;
}
function compare(a, b) {
  const noA = a.key === undefined || a.key === null, noB = b.key === undefined || b.key === null;
  if (noA || noB) return noA - noB || a.place - b.place;
  const order = typeof a.key === "string" || typeof b.key === "string"
    ? String(a.key).localeCompare(String(b.key), "en", { numeric: true }) : a.key - b.key;
  return (reverse.checked ? -order : order) || a.place - b.place;
}
function arrange() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const states = chips.filter(chip => chip.getAttribute("aria-pressed") === "true").map(chip => chip.dataset.state);
  matching = jobs.filter(job => (!states.length || states.includes(job.state))
    && words.every(word => text(job).includes(word)));
  for (const job of matching) job.key = key(job);
  matching.sort(compare);
  list.replaceChildren();
  attached = 0;
  attach();
  document.getElementById("shown").textContent = matching.length === jobs.length ? ""
    : `${matching.length.toLocaleString("en")} of ${jobs.length.toLocaleString("en")} shown`;
  document.getElementById("none").hidden = matching.length > 0;
}
function attach() {
  list.append(...matching.slice(attached, attached + 120).map(job => job.node));
  attached = list.children.length;
  watcher.unobserve(end);
  if (attached < matching.length) watcher.observe(end);
}
const watcher = new IntersectionObserver(
  entries => { if (entries.some(entry => entry.isIntersecting)) attach(); }, { rootMargin: "1500px" });
function layOut() { list.classList.toggle("rows", rows.checked); }
for (const chip of chips) chip.addEventListener("click", () => {
  chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
  arrange();
});
search.addEventListener("input", arrange);
sort.addEventListener("change", arrange);
reverse.addEventListener("change", arrange);
rows.addEventListener("change", layOut);
document.querySelector(".controls").hidden = false;
layOut();
arrange();
