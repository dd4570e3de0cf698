"use strict";
// The page is whole without this: it sorts tables, says where more is to scroll, shows values at
// once, and opens what is folded before it is printed.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function cellsOf(text) {
  const rows = [[]];
  let cell = "", quoted = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted && c === '"' && text[i + 1] === '"') { cell += c; i++; }
    else if (c === '"') quoted = !quoted;
    else if (!quoted && (c === "," || c === "\n")) {
      rows.at(-1).push(cell);
      cell = "";
      if (c === "\n") rows.push([]);
    } else cell += c;
  }
  return rows;
}

// Full values, by the file beside the table: what is shown is rounded.
function valuesOf(table, name, place) {
  const link = table.closest(".tabled").querySelector("a.download");
  const [head, ...rows] = cellsOf(decodeURIComponent(link.href.slice(link.href.indexOf(",") + 1)));
  const column = head.indexOf(name);
  return (row, i) => column < 0 ? row.cells[place].textContent : rows[i][column];
}

function compare(a, b) {
  if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;  // what is missing comes last
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}

function sortable(table) {
  const body = table.tBodies[0], original = [...body.rows], heads = all("thead th", table);
  if (original.length < 2) return;
  heads.forEach((head, place) => {
    const name = head.textContent, button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.title = "Sort by " + name;
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
      const value = valuesOf(table, name, place);
      const keyed = original.map((row, i) => [value(row, i), row]);
      keyed.sort(([a], [b]) => a === "" || b === "" ? compare(a, b) : sign * compare(a, b));
      body.append(...keyed.map(([, row]) => row));
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    };
    button.addEventListener("click", sort);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
}
all("table:not(.turned)").forEach(sortable);

function edges(scroll) {
  const box = scroll.parentElement, rest = scroll.scrollWidth - scroll.clientWidth;
  box.classList.toggle("more", rest - scroll.scrollLeft > 1);
  box.classList.toggle("moved", scroll.scrollLeft > 1);
  box.closest(".tabled, figure").classList.toggle("wider", rest > 1);
}
const watch = new ResizeObserver((found) => found.forEach(({ target }) => edges(target)));
all(".scroll").forEach((scroll) => {
  watch.observe(scroll);
  scroll.addEventListener("scroll", () => edges(scroll), { passive: true });
});

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
all(".mark").forEach((mark) => {
  const title = mark.querySelector(":scope > title");
  mark.dataset.tip = title.textContent;
  title.remove();  // shown by `tip`, at once and under a finger, too
});
function point(event) {
  const mark = event.target.closest?.(".mark");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 12, document.documentElement.clientWidth - width - 8);
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (event.clientY > height + 20 ? event.clientY - height - 12 : event.clientY + 18) + "px";
}
document.addEventListener("pointermove", point, { passive: true });
document.addEventListener("pointerdown", point, { passive: true });
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

const links = new Map(all(".side a").map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const spy = new IntersectionObserver((found) => {
  found.forEach(({ target, isIntersecting }) => seen[isIntersecting ? "add" : "delete"](target.id));
  const first = [...links.keys()].find((id) => seen.has(id));
  if (!first) return;
  links.forEach((link, id) => {
    if (id === first) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
}, { rootMargin: "-10% 0px -60% 0px" });
all("main > section").forEach((section) => spy.observe(section));
all(".fold a").forEach((link) => link.addEventListener("click", () => { link.closest("details").open = false; }));

let opened = [];
window.addEventListener("beforeprint", () => {
  opened = all("main details:not([open]):not(.fold)");
  opened.forEach((details) => { details.open = true; });
});
window.addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
