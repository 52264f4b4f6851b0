"use strict";
// All names come from users' data: they are set as text and attributes, never as HTML.
const D = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg", PAGE = 48, FIRST = 12, LONG = 40, MANY_MARKS = 5;
const KINDS = {missing: "missing label", class: "wrong class", box: "shifted box", twice: "duplicate box"};
const $ = selector => document.querySelector(selector);
const marks = new Map(), store = "adapruner " + D.key;

function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "image", "rect", "circle", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function button(text, action, attributes = {}) {
  const node = el("button", {type: "button", ...attributes}, text);
  node.onclick = action;
  return node;
}

// Images from D.own on are of other lists. On the page of a selection those that stay have one colour.
const why = i => i < D.own ? D.reasons[D.reason[i]] || (D.kept[i] ? "stays" : "goes") : D.datasets[D.dataset[i]];
const colour = i => i >= D.own ? "outside" : D.marks && D.kept[i] ? "kept" : D.colours[why(i)] || "lot";
const short = v => Number.isInteger(v) ? v.toLocaleString("en") : Math.abs(v) < .1 ? String(+v.toPrecision(2)) : v.toFixed(2);
const middle = id => id.length > LONG ? id.slice(0, LONG / 2 - 6) + "…" + id.slice(-LONG / 2 - 5) : id; // the end tells ids apart
const name = c => c < 0 ? "nothing" : D.classes[c];
const classesOf = i => D.label[i] >= 0 ? [D.label[i]] : D.boxes[i].filter((_, at) => at % 5 == 0);

// Pictures are loaded when they come near, or for print.
const load = svg => { svg.firstChild.setAttribute("href", svg.dataset.src); lazily.unobserve(svg); };
const lazily = new IntersectionObserver(seen => seen.forEach(({isIntersecting, target}) => isIntersecting && load(target)), {rootMargin: "800px"});
onbeforeprint = () => document.querySelectorAll("main .pic[data-src]").forEach(svg => svg.dataset.src && load(svg));

function picture(src, [x, y, width, height], boxes) {
  const svg = el("svg", {class: "pic", role: "img", viewBox: `${x} ${y} ${width} ${height}`, "data-src": src});
  const image = el("image", {x, y, width, height, preserveAspectRatio: "none"});
  image.onerror = () => {
    svg.dataset.src = "";
    image.replaceWith(el("text", {x: x + width / 2, y: y + height / 2, "font-size": height / 12}, "no picture"));
  };
  svg.append(image);
  src ? lazily.observe(svg) : image.onerror();
  for (const [kind, title, [x0, y0, x1, y1]] of boxes)
    svg.append(el("rect", {class: kind, x: x0, y: y0, width: Math.max(x1 - x0, 1), height: Math.max(y1 - y0, 1)}, el("title", {}, title)));
  return svg;
}

function card(i) {
  const [width, height] = D.size[i][0] ? D.size[i] : [100, 100];
  const boxes = [], counts = new Map(), numbers = [], seen = D.found?.[i] || [];
  for (let at = 0; at < D.boxes[i].length; at += 5) boxes.push(["label", name(D.boxes[i][at]), D.boxes[i].slice(at + 1, at + 5)]);
  for (let at = 0; at < seen.length; at += 5) boxes.push(["seen", "sees " + name(seen[at]), seen.slice(at + 1, at + 5)]);
  for (const c of classesOf(i)) counts.set(c, (counts.get(c) || 0) + 1);
  for (const [what, column] of Object.entries(D.numbers)) if (column[i] != null) numbers.push(`${what} ${short(column[i])}`.replaceAll(" ", "\u00a0"));
  const labels = [...counts].map(([c, n]) => (n > 1 ? n + " " : "") + name(c)).join(", ") || "no boxes";
  const similar = D.similarity[i] != null ? ` ${(D.similarity[i] * 100).toFixed(0)}%` : "";
  const figure = frame(i, picture(D.src[i], [0, 0, width, height], boxes), why(i) + similar, labels, numbers.join(", "));
  if (!D.marks || i >= D.own) return figure;
  figure.lastChild.append(button("", () => mark(i)));
  figure.dataset.i = i;
  show(figure, i);
  return figure;
}

function frame(i, pic, says, ...more) {
  const id = el("span", {class: "id", title: D.datasets[D.dataset[i]] + " " + D.id[i]}, middle(D.id[i]));
  pic.setAttribute("aria-label", D.id[i]);
  const lines = more.filter(Boolean).map(text => el("span", {class: "more"}, text));
  return el("figure", {class: "card " + colour(i)}, pic, el("figcaption", {}, id, el("span", {class: "why"}, says), ...lines));
}

function doubt(d) {
  const boxes = [];
  if (d.label_box) boxes.push(["label", name(d.label), d.label_box]);
  if (d.other_box) boxes.push(["other", "repeats " + name(d.label), d.other_box]);
  if (d.seen_box) boxes.push(["seen", "sees " + name(d.seen), d.seen_box]);
  const says = {missing: `sees ${name(d.seen)}`, twice: name(d.label), box: `${name(d.label)}, seen elsewhere`}[d.kind];
  return frame(d.i, picture(d.src, d.view, boxes), KINDS[d.kind] || d.kind, says || `${name(d.label)}, sees ${name(d.seen)}`,
    D.kept[d.i] ? "the image stays" : "the image goes");
}

function show(figure, i) {
  const own = figure.querySelector("button");
  figure.classList.toggle("marked", marks.has(i));
  own.textContent = marks.has(i) ? (marks.get(i) ? "you keep it" : "you prune it") : (D.kept[i] ? "prune instead" : "keep instead");
  own.setAttribute("aria-label", own.textContent + ": " + D.id[i]);
  own.setAttribute("aria-pressed", marks.has(i));
}

function mark(i) {
  marks.has(i) ? marks.delete(i) : marks.set(i, 1 - D.kept[i]);
  remark(`[data-i="${i}"]`);
}

function clear() {
  if (marks.size > MANY_MARKS && !confirm(`Clear all ${marks.size} marks?`)) return;
  marks.clear();
  remark("[data-i]");
}

// Shows changed marks on cards. Where the list gets shorter, the next card takes the focus.
function remark(cards) {
  for (const figure of document.querySelectorAll(cards)) show(figure, +figure.dataset.i);
  showMarks();
  const filter = $("#filters").kept;
  if (filter.value != "marked") return;
  const at = [...$("#list").children].findIndex(own => own.contains(document.activeElement));
  choose(page);
  if (at >= 0) ([...$("#list").querySelectorAll("button")].slice(0, at + 1).pop() || filter).focus();
}

function showMarks() {
  $("#marks").hidden = !marks.size;
  $("#marks span").textContent = marks.size + (marks.size == 1 ? " mark" : " marks");
  try { localStorage.setItem(store, JSON.stringify([...marks])); } catch { /* marks then last as long as the page */ }
}

function corrections() {
  const cell = text => /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  const rows = [...marks].map(([i, kept]) => [cell(D.datasets[D.dataset[i]]), cell(D.id[i]), kept].join(","));
  return ["dataset,id,kept", ...rows].join("\n") + "\n";
}

// A few cards at first, and a button for more of them.
function fill(place, items, make) {
  let shown = 0;
  const more = button("", () => add(PAGE)), printed = el("span", {class: "printed"});
  const add = number => {
    place.append(...items.slice(shown, shown + number).map(make));
    shown = Math.min(items.length, shown + number);
    more.textContent = `show more (${items.length - shown} left)`;
    printed.textContent = `and ${(items.length - shown).toLocaleString("en")} more`;
    pager.hidden = shown == items.length;
  };
  const pager = el("div", {class: "pager"}, more, printed);
  if (place.nextElementSibling?.className == "pager") place.nextElementSibling.remove();
  place.after(pager);
  place.replaceChildren();
  add(FIRST);
}

function kinds(place) {
  const choose = kind => {
    for (const own of place.children) own.setAttribute("aria-pressed", own.dataset.kind == kind);
    fill($("[data-doubts]"), D.doubts.filter(d => !kind || d.kind == kind), doubt);
  };
  for (const kind of ["", ...Object.keys(KINDS)]) {
    const count = D.doubts.filter(d => !kind || d.kind == kind).length;
    if (count) place.append(button(`${KINDS[kind] || "all"} ${count}`, () => choose(kind), {"data-kind": kind}));
  }
  choose("");
}

let chosen = [], page = 0;
function choose(to = 0) {
  const {text, cls, reason, sort, order, kept = "", dataset = ""} = Object.fromEntries(new FormData($("#filters")));
  const value = {boxes: i => D.boxes[i].length, id: i => D.id[i]}[sort] || (i => D.numbers[sort][i]);
  chosen = [...D.id.keys()].slice(0, D.own).filter(i => D.id[i].toLowerCase().includes(text.toLowerCase())
    && (dataset === "" || D.dataset[i] == dataset) && (cls === "" || classesOf(i).includes(+cls)) && (reason === "" || D.reason[i] == reason)
    && (kept === "" || (kept == "marked" ? marks.has(i) : D.kept[i] == kept)));
  const compare = (a, b) => (a == null) - (b == null) || (a < b ? -1 : a > b ? 1 : 0) * order;
  chosen.sort((a, b) => compare(value(a), value(b)) || a - b);
  turn(to);
}

function turn(to) {
  const last = Math.max(0, Math.ceil(chosen.length / PAGE) - 1);
  page = Math.min(to, last);
  $("#list").replaceChildren(...chosen.slice(page * PAGE, (page + 1) * PAGE).map(card));
  $("#count").textContent = `${chosen.length.toLocaleString("en")} of ${D.own.toLocaleString("en")}`;
  $("#page").textContent = chosen.length ? `page ${page + 1} of ${last + 1}` : "no image";
  $("#previous").disabled = page == 0;
  $("#next").disabled = page == last;
}

function map(svg) {
  const at = D.points.map(([i, x, y]) => [i, 4 + 152 * x, 4 + 82 * y]).sort((a, b) => D.kept[b[0]] - D.kept[a[0]]);
  const circles = at.map(([i, cx, cy]) => el("circle", {cx, cy, r: at.length > 600 ? .7 : .9, class: colour(i)}));
  const peek = $("#peek");
  svg.append(...circles);
  const leave = () => { $(".near")?.classList.remove("near"); peek.hidden = true; };
  const look = (place, x, y) => {
    const near = circles[place];
    if (!near.classList.contains("near")) {
      leave();
      near.classList.add("near");
      peek.replaceChildren(card(at[place][0]));
      peek.hidden = false;
    }
    peek.style.left = Math.max(4, x + (x > innerWidth / 2 ? -peek.offsetWidth - 16 : 16)) + "px";
    peek.style.top = Math.max(4, Math.min(y, innerHeight - peek.offsetHeight - 8)) + "px";
  };
  svg.onpointermove = svg.onpointerdown = event => {
    const box = svg.getBoundingClientRect(), scale = 160 / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const far = at.map(([, px, py]) => Math.hypot(px - x, py - y)), least = Math.min(...far);
    least > 18 * scale ? leave() : look(far.indexOf(least), event.clientX, event.clientY);
  };
  const order = [...at.keys()].sort((a, b) => at[a][1] - at[b][1]); // from left to right
  svg.onkeydown = event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key == "Escape") leave();
    if (!step) return;
    event.preventDefault();
    const now = order.findIndex(place => circles[place].classList.contains("near"));
    const next = order.at(now < 0 ? Math.min(step, 0) : (now + step) % order.length), {x, y} = circles[next].getBoundingClientRect();
    look(next, x, y);
  };
  svg.onpointerleave = svg.onblur = leave;
}

if (D.marks) try { for (const [i, kept] of JSON.parse(localStorage.getItem(store) || "[]")) marks.set(i, kept); } catch { /* as above */ }
for (const place of document.querySelectorAll("[data-cards]")) fill(place, D.sections[place.dataset.cards], card);
for (const place of document.querySelectorAll("[data-groups]")) fill(place, D.sections[place.dataset.groups], group => el("div", {class: group.length > 2 ? "group long" : "group"}, ...group.map(card)));
if (D.doubts?.length) kinds($("[data-kinds]"));
if (D.points?.length) map($("#points"));
$("#filters").onsubmit = event => event.preventDefault();
$("#filters").oninput = () => choose();
for (const link of document.querySelectorAll("[data-reason]")) link.onclick = () => {
  $("#filters").reset();
  $("#filters").reason.value = link.dataset.reason;
  choose();
};
$("#previous").onclick = () => turn(page - 1);
$("#next").onclick = () => turn(page + 1);
$("#clear").onclick = clear;
$("#download").onclick = () => {
  const href = URL.createObjectURL(new Blob([corrections()], {type: "text/csv"}));
  el("a", {href, download: "corrections.csv"}).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
};
choose();
showMarks();
