"use strict";
// Shows the data of redcomp/view/collect.py.  Texts become nodes by textContent, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const stages = data.stages, byName = new Map(stages.map((s, n) => [s.name, n]));
const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") node.className = value;
    else if (key === "hue") value === undefined ? node.classList.add("nobody") : node.style.setProperty("--h", value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c !== undefined));
  return node;
}

// -- families: their order, colours and names ------------------------------------------------------

const HUES = [212, 28, 275, 145, 345, 188, 52, 310, 95, 240, 10, 165];
const order = [];
const seen = new Set();
for (const stage of stages)
  for (const line of linesOf(stage))
    if (line.family >= 0 && !seen.has(line.family)) { seen.add(line.family); order.push(line.family); }
const hueOf = new Map(order.map((family, n) => [family, HUES[n % HUES.length]]));
const nameOf = (family) => data.families[family] || "";

function linesOf(stage) {
  if (stage.all) return stage.all;
  if (stage.kind === "ir")
    stage.all = stage.lines.map(([indent, pieces, group, family, key]) => ({ indent, pieces, group, family, key }));
  else
    stage.all = stage.functions.flatMap((f) =>
      f.lines.map(([text, group, family], n) => ({ text, group, family, place: f.first + n, of: f })));
  return stage.all;
}

// -- the pair loop in the text of its stage --------------------------------------------------------

const loopRows = new Map(); // "stage function place" to its row
for (const loop of data.loops)
  for (const row of loop.rows) loopRows.set(`${loop.stage} ${loop.stage === "sass" ? loop.title : ""} ${row.place}`, row);
const rowOf = (stage, line) =>
  line.of && loopRows.get(`${stage.name} ${stage.name === "sass" ? line.of.name : ""} ${line.place}`);

// -- panes -----------------------------------------------------------------------------------------

const lastProgram = stages.reduce((last, s, n) => (s.kind === "ir" && s.changes ? n : last), 0);
const state = { shown: [0, lastProgram, stages.length - 1], current: 0, marks: true, pinned: null };
const panes = [];

function number(value, digits = 2) {
  return Number(value.toFixed(digits)).toString();
}

function lineNode(stage, line, names) {
  const node = make("div", { class: "ln" });
  if (line.group >= 0) node.dataset.g = line.group;
  if (line.family >= 0) { node.dataset.f = line.family; node.style.setProperty("--h", hueOf.get(line.family)); }
  const gutter = make("span", { class: "gut" }, " ");
  node.append(gutter);
  if (stage.kind === "ir") {
    node.append("  ".repeat(line.indent));
    for (const [text, role, group] of line.pieces) {
      const piece = make("span", { class: "t-" + role }, text);
      if (group >= 0 && role !== "o") piece.dataset.g = group;
      node.append(piece);
    }
    return node;
  }
  const row = rowOf(stage, line);
  if (row) {
    node.classList.add("inloop");
    gutter.textContent = "▎";
    if (row.ports && row.ports.length) {
      const ports = row.ports.map(([p, c]) => `${p}${c === 1 ? "" : "×" + number(c)}`).join(" ");
      node.append(make("span", { class: "cost", title: ports }, ports));
    }
  }
  let at = 0;
  for (const match of line.text.matchAll(/%[\w.]+/g)) {
    const group = names.get(match[0]);
    if (group === undefined) continue;
    node.append(line.text.slice(at, match.index), Object.assign(make("span", {}, match[0]), {}));
    node.lastChild.dataset.g = group;
    at = match.index + match[0].length;
  }
  node.append(line.text.slice(at));
  return node;
}

function resultNames(lines) {
  // In LLVM an instruction's result has a name, so that its operands can be marked too.
  const names = new Map();
  for (const line of lines) {
    const match = /^  (%[\w.]+) = /.exec(line.text || "");
    if (match && line.group >= 0) names.set(match[1], line.group);
  }
  return names;
}

function fill(pane) {
  const stage = stages[state.shown[pane.index]], all = linesOf(stage);
  pane.stage = stage;
  pane.select.value = stage.name;
  pane.about.textContent = stage.about;
  pane.about.title = stage.about;
  pane.nodes = [];
  pane.at = -1;
  const body = document.createDocumentFragment();
  if (stage.kind === "ir") {
    for (const line of all) body.append(add(pane, stage, line, new Map()));
  } else {
    for (const f of stage.functions) {
      const own = all.filter((line) => line.of === f), names = stage.kind === "llvm" ? resultNames(own) : new Map();
      const box = make("details", f.open ? { open: "" } : {}, make("summary", {}, `${f.name} (${f.lines.length} lines)`));
      box.addEventListener("toggle", () => ticks(pane));
      for (const line of own) box.append(add(pane, stage, line, names));
      body.append(box);
    }
  }
  pane.lines.replaceChildren(body);
  pane.lines.scrollTop = 0;
  const first = pane.lines.querySelector(".inloop");
  if (first) pane.lines.scrollTop = first.offsetTop - 60;
}

function add(pane, stage, line, names) {
  const node = lineNode(stage, line, names);
  node.line = line;
  pane.nodes.push(node);
  return node;
}

function differ() {
  // Values, not lines: what the left pane has of the right one's values, and the reverse.
  for (const pane of panes) {
    pane.lines.classList.toggle("marks", state.marks);
    if (pane.stage.kind !== "ir") continue;
    const near = (step) => {
      const other = panes[pane.index + step];
      if (!other || other.stage.kind !== "ir") return null;
      const lines = linesOf(other.stage);
      return { groups: new Set(lines.map((l) => l.group)), keys: new Set(lines.map((l) => l.key)) };
    };
    const left = near(-1), right = near(1);
    for (const node of pane.nodes) {
      const { group, key } = node.line, gutter = node.firstChild;
      node.classList.remove("new", "gone", "moved");
      gutter.textContent = " ";
      if (group < 0 || !state.marks) continue;
      const mark = left && !left.groups.has(group) ? ["new", "+"]
        : right && !right.groups.has(group) ? ["gone", "−"]
        : left && !left.keys.has(key) ? ["moved", "~"] : null;
      if (mark) { node.classList.add(mark[0]); gutter.textContent = mark[1]; }
    }
  }
}

function show() {
  while (panes.length < state.shown.length) panes.push(newPane(panes.length));
  while (panes.length > state.shown.length) panes.pop().node.remove();
  for (const pane of panes) if (pane.stage !== stages[state.shown[pane.index]]) fill(pane);
  state.current = Math.min(state.current, panes.length - 1);
  for (const pane of panes) pane.node.classList.toggle("current", pane.index === state.current);
  for (const [n, button] of chips.entries()) {
    button.classList.toggle("shown", state.shown.includes(n));
    button.setAttribute("aria-pressed", state.shown.includes(n));
  }
  differ();
  mark(state.pinned);
}

function newPane(index) {
  const pane = { index };
  const step = (by) => () => { state.current = index; choose(state.shown[index] + by); };
  pane.select = make("select", { "aria-label": `stage of pane ${index + 1}`, onchange: () => {
    state.current = index; choose(byName.get(pane.select.value)); } },
    ...stages.map((s) => make("option", { value: s.name }, s.name)));
  pane.about = make("p");
  pane.lines = make("div", { class: "lines", tabindex: 0, role: "group", "aria-label": `pane ${index + 1}` });
  pane.ticks = make("div", { class: "ticks", "aria-hidden": "true" });
  pane.node = make("article", { class: "pane" },
    make("header", {}, make("button", { onclick: step(-1), "aria-label": "previous stage" }, "‹"), pane.select,
      make("button", { onclick: step(1), "aria-label": "next stage" }, "›"), pane.about),
    make("div", { class: "scroll" }, pane.lines, pane.ticks));
  pane.lines.addEventListener("mouseover", (event) => hover(event.target));
  pane.lines.addEventListener("mouseleave", () => mark(state.pinned));
  pane.lines.addEventListener("focus", () => { state.current = index; for (const p of panes) p.node.classList.toggle("current", p === pane); });
  pane.lines.addEventListener("click", (event) => { state.current = index; pin(valueAt(event.target), pane); });
  $("panes").append(pane.node);
  return pane;
}

function choose(n) {
  state.shown[state.current] = Math.max(0, Math.min(stages.length - 1, n));
  show();
}

// -- marking a value -------------------------------------------------------------------------------

const familyOf = new Map();
for (const stage of stages) for (const line of linesOf(stage)) if (line.group >= 0) familyOf.set(line.group, line.family);
const rule = document.head.appendChild(make("style"));

function valueAt(node) {
  const found = node.closest && node.closest("[data-g]");
  if (!found) return null;
  const group = Number(found.dataset.g), family = familyOf.has(group) ? familyOf.get(group) : group;
  return { group, family };
}

function hover(node) {
  const found = valueAt(node);
  if (found || !state.pinned) mark(found || state.pinned);
}

function pin(found, from) {
  state.pinned = found;
  mark(found);
  if (!found) return;
  for (const pane of panes) {
    if (pane === from) continue;
    const near = (name) => [...pane.lines.querySelectorAll(name)].filter((n) => n.offsetParent);
    const nodes = [near(`.ln.inloop[data-g="${found.group}"]`), near(`.ln[data-g="${found.group}"]`),
      near(`.ln.inloop[data-f="${found.group}"]`), near(`.ln[data-f="${found.group}"]`), near(`.ln[data-f="${found.family}"]`)];
    const first = nodes.find((list) => list.length);
    if (first) pane.lines.scrollTop = first[0].offsetTop - pane.lines.clientHeight / 3;
  }
  ticksAll();
}

function mark(found) {
  state.marked = found;
  const { group, family } = found || { group: -1, family: -1 };
  rule.textContent = found ? `
    .ln[data-f="${group}"] { background: hsl(var(--h) 75% 50% / calc(var(--tint) * 1.6)) !important; }
    .ln[data-g="${group}"] { background: hsl(var(--h) 80% 50% / calc(var(--tint) * 2.6)) !important; font-weight: 600; }
    span[data-g="${group}"] { text-decoration: underline 2px; text-underline-offset: 3px; }
    tr[data-g="${group}"] td { background: color-mix(in srgb, var(--accent) 18%, transparent); }
    tr[data-f="${group}"] td { background: color-mix(in srgb, var(--accent) 10%, transparent); }` : "";
  ticksAll();
  $("status").replaceChildren(...describe(found));
}

function describe(found) {
  if (!found) return ["Point at a value to see it in every stage."];
  const { group, family } = found, parts = [];
  const isFamily = group === family || nameOf(group);
  parts.push(make("b", {}, `%${group}`), isFamily ? ` is ${nameOf(group)}` : ` is a step of ${nameOf(family)}`);
  const texts = stages.filter((s) => s.kind !== "ir").map((s) => {
    const n = linesOf(s).filter((l) => l.group === group || l.family === group).length;
    return n ? `${n} lines of ${s.name}` : "";
  }).filter(Boolean);
  if (texts.length) parts.push("; ", texts.join(", "));
  for (const loop of data.loops) {
    const rows = loop.rows.filter((r) => r.group === group || r.family === group);
    if (!rows.length) continue;
    const clocks = rows.reduce((sum, r) => sum + (r.clocks || 0), 0);
    parts.push(`; ${rows.length} of ${loop.rows.length} instructions of the pair loop`);
    if (clocks) parts.push(` (${number(100 * clocks / total(loop), 0)} % of the work of its ports)`);
  }
  return parts;
}

const total = (loop) => loop.rows.reduce((sum, row) => sum + (row.clocks || 0), 0);

function ticks(pane) {
  const height = pane.lines.scrollHeight || 1, nodes = [];
  const place = (node, kind) => {
    const tick = make("i", { class: kind });
    tick.style.top = `${(100 * node.offsetTop) / height}%`;
    nodes.push(tick);
  };
  const visible = (name) => [...pane.lines.querySelectorAll(name)].filter((n) => n.offsetParent);
  const loop = visible(".ln.inloop");
  if (loop.length) {
    place(loop[0], "loop");
    const last = loop[loop.length - 1];
    nodes[0].style.height = `${(100 * (last.offsetTop - loop[0].offsetTop + 18)) / height}%`;
  }
  if (state.marked) {
    for (const node of visible(`.ln[data-f="${state.marked.group}"]`)) place(node, "");
    for (const node of visible(`.ln[data-g="${state.marked.group}"]`)) place(node, "same");
  }
  pane.ticks.replaceChildren(...nodes);
}
const ticksAll = () => panes.forEach(ticks);

// -- keys ------------------------------------------------------------------------------------------

function move(by) {
  const pane = panes[state.current], nodes = pane.nodes.filter((n) => n.offsetParent && n.line.group >= 0);
  if (!nodes.length) return;
  const before = nodes.findIndex((n) => n.classList.contains("at"));
  const next = nodes[Math.max(0, Math.min(nodes.length - 1, before + by))];
  for (const node of pane.nodes) node.classList.toggle("at", node === next);
  next.scrollIntoView({ block: "nearest" });
  mark(valueAt(next));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
  const keys = {
    ArrowLeft: () => choose(state.shown[state.current] - 1),
    ArrowRight: () => choose(state.shown[state.current] + 1),
    ArrowUp: () => move(-1), ArrowDown: () => move(1), k: () => move(-1), j: () => move(1),
    Escape: () => { for (const p of panes) for (const n of p.nodes) n.classList.remove("at"); pin(null); },
    d: () => { state.marks = !state.marks; differ(); },
    "-": () => { if (state.shown.length > 1) { state.shown.pop(); show(); } },
    "+": () => { if (state.shown.length < 3) { state.shown.push(stages.length - 1); show(); } },
  };
  if (event.key === "Enter") {
    if (event.target.tagName === "BUTTON" || event.target.tagName === "SUMMARY") return;
    pin(state.marked, panes[state.current]);
  } else if (/^[1-3]$/.test(event.key)) {
    const pane = panes[Number(event.key) - 1];
    if (pane) pane.lines.focus();
  } else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

// -- what stands around the panes ------------------------------------------------------------------

const facts = data.facts;
$("formula").textContent = data.formula;
$("where").textContent = [facts.given, facts.result, facts.target, facts.operations].join("; ");

function card(value, label) {
  $("cards").append(make("div", { class: "card" }, make("b", {}, value), make("span", {}, label)));
}
for (const loop of data.loops) {
  const name = data.loops.length > 1 ? ` of ${loop.title}` : "";
  const isInner = loop.unit.startsWith("components");
  const of = `${isInner ? "component of a " : ""}${loop.stage === "sass" ? "pair of a thread" : "vector of pairs"}`;
  card(number(loop.rows.length / loop.pairs * lanes(loop), 1), `instructions per ${of}${name}`);
  if (loop.clocks) {
    card(number(loop.pairs / loop.clocks), `${isInner ? "components of " : ""}pairs per clock${loop.stage === "sass" ? " and multiprocessor" : " and core"} at best`);
    card(loop.limit, "limits the loop");
  }
  if (loop.warps) { card(loop.warps, `warps (${number(100 * loop.occupancy, 0)} % of what fits)`); card(loop.registers, "registers per thread"); }
  card(loop.spills ? loop.spills : "none", loop.stage === "sass" ? "bytes of spills" : "spilled registers in the loop");
}
function lanes(loop) { return loop.lanes || 1; }
if (data.roofline) card(`${number(100 * data.roofline.share, 0)} %`, data.roofline.shareOf);
if (!data.loops.length) card("no machine code", facts.machine);

const chips = stages.map((stage, n) => {
  const button = make("button", { class: stage.changes ? "" : "idle", onclick: () => choose(n),
    title: stage.changes ? stage.about : `${stage.about} (changes nothing here)` }, stage.name);
  return button;
});
chips.forEach((chip, n) => $("pipeline").append(...(n ? [make("i", {}, "→")] : []), chip));

const inLoops = new Set(data.loops.flatMap((l) => l.rows.map((r) => r.family)));
for (const family of order) {
  const first = linesOf(stages[0]).some((l) => l.family === family);
  if (!nameOf(family) || !(first || inLoops.has(family))) continue;
  const value = { group: family, family };
  $("legend").append(make("button", { hue: hueOf.get(family), onclick: () => pin(value),
    onmouseenter: () => mark(value), onmouseleave: () => mark(state.pinned) }, nameOf(family)));
}

function bars(entries, most, unit) {
  const box = make("div", { class: "bars" });
  for (const { label, amount, hue, full, note } of entries) {
    const bar = make("div", { class: "bar", hue });
    bar.style.width = `${(100 * amount) / most}%`;
    box.append(make("span", { class: "label", title: label }, label),
      make("div", { class: full ? "rail full" : "rail" }, bar),
      make("span", { class: "amount" }, note || `${number(amount)} ${unit}`));
  }
  return box;
}

function loopTable(loop) {
  const head = make("tr", {}, ...["instruction", "of", ...(loop.stage === "sass" ? [] : ["micro-ops", "latency"]), "ports", "clocks"].map((t) => make("th", {}, t)));
  const rows = loop.rows.map((row) => {
    const cells = [make("td", { class: "i" }, row.text), make("td", { class: "of" }, row.family >= 0 ? nameOf(row.family) : "")];
    if (loop.stage !== "sass") cells.push(make("td", {}, row.uops === undefined ? "?" : row.uops), make("td", {}, row.latency === undefined ? "?" : row.latency));
    cells.push(make("td", {}, row.ports ? row.ports.map(([p, c]) => `${p}${c === 1 ? "" : " × " + number(c)}`).join(", ") : "?"),
      make("td", {}, row.clocks === undefined ? "?" : number(row.clocks)));
    return make("tr", { "data-g": row.group, "data-f": row.family, hue: hueOf.get(row.family) }, ...cells);
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  table.addEventListener("mouseover", (event) => hover(event.target));
  table.addEventListener("mouseleave", () => mark(state.pinned));
  table.addEventListener("click", (event) => pin(valueAt(event.target)));
  return make("div", { class: "tablebox", tabindex: 0 }, table);
}

for (const loop of data.loops) {
  $("loop").append(make("h2", {}, `The pair loop${data.loops.length > 1 ? " " + loop.title : ""}: ${loop.rows.length} instructions for ${loop.pairs} ${loop.unit}`),
    make("p", { class: "why" }, loop.says + (loop.unknown && loop.unknown.length
      ? ` Nothing is known of what these cost: ${loop.unknown.join(", ")}.` : "")), loopTable(loop));
  const byFamily = new Map();
  for (const row of loop.rows) byFamily.set(row.family, (byFamily.get(row.family) || 0) + (row.clocks || 0));
  const sum = total(loop);
  if (sum) {
    const entries = [...byFamily].sort((a, b) => b[1] - a[1]).map(([family, amount]) => ({
      label: family < 0 ? "the loop itself: counters, addresses, moves" : nameOf(family), amount,
      hue: hueOf.get(family), note: `${number(100 * amount / sum, 0)} %` }));
    $("time").append(make("h2", {}, `Whose work the ${loop.stage === "sass" ? "pipes" : "ports"} do`), bars(entries, Math.max(...entries.map((e) => e.amount)), ""));
  }
  if (loop.busy) {
    const entries = Object.entries(loop.busy).filter(([, amount]) => amount > 0).map(([label, amount]) => ({ label, amount, hue: 212, full: amount > 0.985 * loop.clocks,
      note: `${number(amount, 1)} clocks, ${number(100 * amount / loop.clocks, 0)} %` }));
    $("time").append(make("h2", { style: "margin-top:16px" }, `How busy the ${loop.stage === "sass" ? "pipes" : "ports"} are in ${number(loop.clocks, 1)} clocks`), bars(entries, loop.clocks, ""));
  }
}

function scheduleSection() {
  const { text, why, considered } = data.schedule;
  $("schedule").append(make("h2", {}, "The schedule"), make("p", {}, text), make("p", { class: "why" }, why));
  for (const blocks of considered) {
    const isGpu = "clocks" in blocks[0];
    const head = make("tr", {}, ...["rows × columns", ...(isGpu ? ["registers per thread", "clocks per 32 pairs, about"] : ["needs", "of", "what", ""])].map((t) => make("th", {}, t)));
    const rows = blocks.map((b) => make("tr", b.taken ? { class: "taken" } : {}, make("td", { class: "i" }, `${b.rows} × ${b.cols}${b.taken ? "  taken" : ""}`),
      ...(isGpu ? [b.registers, number(b.clocks, 3)] : [b.needs, b.limit, b.what, b.fits ? "fits" : "does not fit"]).map((t) => make("td", {}, String(t)))));
    $("schedule").append(make("div", { class: "tablebox" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))));
  }
}
scheduleSection();

// -- roofline --------------------------------------------------------------------------------------

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function drawRoofline(roofline) {
  const width = 520, height = 300, left = 52, right = 14, top = 16, bottom = 44;
  const { point, roofs } = roofline, memory = roofs.find((r) => r.bytes);
  const flat = roofs.filter((r) => r.rate), highest = Math.max(...flat.map((r) => r.rate));
  const ridge = highest / memory.bytes;
  const xs = [Math.min(point.intensity, ridge) / 4, Math.max(point.intensity, ridge) * 6].map(Math.log2);
  const ys = [Math.min(point.rate, ...flat.map((r) => r.rate)) / 4, highest * 1.7].map(Math.log2);
  const x = (v) => left + ((Math.log2(v) - xs[0]) / (xs[1] - xs[0])) * (width - left - right);
  const y = (v) => height - bottom - ((Math.log2(v) - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label":
    `${number(point.rate, 1)} ${roofline.unit} at ${number(point.intensity, 2)} ${roofline.intensity}` });
  for (let n = Math.ceil(xs[0]); n <= xs[1]; n++) {
    const v = 2 ** n;
    chart.append(svg("line", { x1: x(v), x2: x(v), y1: top, y2: height - bottom, class: "grid" }), svg("text", { x: x(v), y: height - bottom + 14, "text-anchor": "middle" }, v < 1 ? `1/${2 ** -n}` : v));
  }
  for (let n = Math.ceil(ys[0]); n <= ys[1]; n++) {
    const v = 2 ** n;
    chart.append(svg("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), class: "grid" }), svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, v < 1 ? `1/${2 ** -n}` : v));
  }
  const slope = (v) => v * memory.bytes, low = Math.max(2 ** xs[0], 2 ** ys[0] / memory.bytes);
  chart.append(svg("path", { class: "roof", d: `M${x(low)} ${y(slope(low))}L${x(ridge)} ${y(highest)}` }));
  chart.append(svg("text", { x: x(low) + 14, y: y(slope(low)) - 4 }, `${memory.label}, ${number(memory.bytes, 0)} B per clock`));
  for (const roof of flat.sort((a, b) => b.rate - a.rate)) {
    chart.append(svg("line", { x1: x(Math.max(roof.rate / memory.bytes, 2 ** xs[0])), x2: width - right, y1: y(roof.rate), y2: y(roof.rate), class: "roof" }),
      svg("text", { x: width - right, y: y(roof.rate) - 5, "text-anchor": "end" }, `${roof.label}, ${number(roof.rate, 1)}`));
  }
  chart.append(svg("circle", { cx: x(point.intensity), cy: y(point.rate), r: 5.5, class: "point" }),
    svg("text", { x: x(point.intensity) - 9, y: y(point.rate) + 16, "text-anchor": "end", "font-weight": "bold" }, `${point.label}, ${number(point.rate, 1)}`),
    svg("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, roofline.intensity));
  $("roofline").append(make("h2", {}, `Roofline: ${roofline.unit}`), chart, make("p", { class: "why" }, roofline.note));
}
if (data.roofline) drawRoofline(data.roofline);
else $("roofline").append(make("h2", {}, "Roofline"), make("p", { class: "why" }, data.noRoofline));

show();
