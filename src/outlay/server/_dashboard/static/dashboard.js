// The one script: hints over charts, names of time zones, and the current link in a
// row that is wider than a phone. Everything works without.
"use strict";

const hint = document.createElement("div");
hint.className = "hint";
hint.hidden = true;
hint.setAttribute("role", "presentation");
document.body.append(hint);

function line(name, value, kind) {
  const row = document.createElement("div");
  const left = document.createElement("span");
  const right = document.createElement("span");
  left.textContent = name;
  right.textContent = value;
  row.append(left, right);
  if (kind) row.className = kind;
  return row;
}

function show(column, twin) {
  const row = twin.tBodies[0].rows[column.dataset.row];
  const heads = twin.tHead.rows[0].cells;
  const title = document.createElement("b");
  title.textContent = row.cells[0].textContent;
  hint.replaceChildren(title);
  for (let at = 1; at < row.cells.length; at += 1) {
    const value = row.cells[at].textContent.trim();
    const isSum = at === row.cells.length - 1;
    if (value !== "–") hint.append(line(heads[at].textContent, value, isSum ? "sum" : ""));
  }
  hint.hidden = false;
  const box = column.getBoundingClientRect();
  const left = box.left + box.width / 2 - hint.offsetWidth / 2;
  const most = document.documentElement.clientWidth - hint.offsetWidth - 8;
  hint.style.left = `${Math.max(8, Math.min(left, most)) + window.scrollX}px`;
  hint.style.top = `${Math.max(8, box.top - hint.offsetHeight - 6) + window.scrollY}px`;
}

function hide() {
  hint.hidden = true;
}

for (const chart of document.querySelectorAll("[data-chart]")) {
  const twin = chart.closest("section").querySelector("[data-twin]");
  for (const column of chart.querySelectorAll(".col")) {
    column.querySelector("title").remove(); // the hint replaces the browser's own
    for (const event of ["pointerenter", "focus"]) column.addEventListener(event, () => show(column, twin));
    for (const event of ["pointerleave", "blur"]) column.addEventListener(event, hide);
  }
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

const zones = document.getElementById("zones");
if (zones && Intl.supportedValuesOf) {
  const names = ["UTC", ...Intl.supportedValuesOf("timeZone")];
  zones.append(...names.map((name) => new Option(name, name)));
}

for (const link of document.querySelectorAll(".nav [aria-current], .seg [aria-current]")) {
  const row = link.parentElement;
  const middle = row.getBoundingClientRect().left + (row.clientWidth - link.offsetWidth) / 2;
  row.scrollLeft += link.getBoundingClientRect().left - middle;
}
