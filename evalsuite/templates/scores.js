"use strict";
// Sorting, filtering and curves. Whatever comes from the scores goes in as text or numbers, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const body = get("tasks-rows").tBodies[0];
  const rows = Array.from(body.rows);

  // --- table ---------------------------------------------------------------------------------------------
  const heads = Array.from(document.querySelectorAll("[data-sort]"));
  const numeric = new Set(["opens", "closes", "snr", "cost", "weight"]);

  const key = (name, row) => {
    const one = data.rows[row.dataset.row];
    if (name === "class") return data.classes.indexOf(one.class) - (one.p === null ? 0 : 0.999 * one.p);
    return one[name];
  };
  const sort = (button) => {
    const head = button.closest("th"), name = button.dataset.sort;
    // Of signal and weight the largest are asked for first; of the rest the smallest.
    const first = ["snr", "weight"].includes(name) ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of heads) one.closest("th").setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const x = key(name, a), y = key(name, b);
      if (x === null || y === null) return (x === null) - (y === null);  // what is missing comes last
      const found = numeric.has(name) || name === "class" ? x - y : x < y ? -1 : x > y ? 1 : 0;
      return sign * found || a.dataset.row - b.dataset.row;
    };
    body.append(...rows.sort(compare));
  };
  for (const button of heads) button.addEventListener("click", () => sort(button));

  const form = get("filters"), count = get("f-count");
  const filter = () => {
    const words = get("f-text").value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of rows) {
      const one = data.rows[row.dataset.row];
      const text = `${one.task} ${one.metric} ${one.capability} ${one.class} ${one.evidence}`.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && ["class", "metric", "capability"].every((name) => ["", one[name]].includes(get(`f-${name}`).value));
      row.hidden = !fits;
      left += fits;
    }
    count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();  // a browser may have kept what stood in the fields

  // --- curve ---------------------------------------------------------------------------------------------
  const dialog = get("curve");
  let open = 0;

  const node = (name, attributes, ...inside) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  };
  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const powers = (x) => "10" + String(x).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const compute = (x) => (10 ** x).toExponential(1).replace("e+", "e").replace(".0e", "e");
  const shapes = [
    (r) => `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`,
    (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
    (r) => `M0 ${-1.25 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`,
    (r) => `M0 ${-1.35 * r}L${1.35 * r} 0L0 ${1.35 * r}L${-1.35 * r} 0Z`,
    (r) => `M0 ${1.25 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`,
  ];
  const steps = (low, high) => {
    const raw = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * unit).find((one) => one >= raw * 0.999);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
    return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
  };

  const draw = (curve, colour) => {
    const set = data.sets[curve.set];
    const wide = Math.max(280, get("curve-picture").clientWidth), tall = wide < 500 ? 300 : 380;
    const left = 52, right = wide - 10, top = 24, bottom = tall - 38;
    const levels = [...curve.y, ...curve.line, ...curve.refs.map((one) => one[1])];
    let low = Math.min(...levels), high = Math.max(...levels);
    const room = Math.max(0.07 * (high - low), 0.01 * Math.max(Math.abs(high), 1e-9));
    low -= room; high += room;
    const from = Math.min(curve.from, ...set.x) - 0.02 * (curve.to - curve.from), to = curve.to;
    const at = (x) => +(left + (right - left) * (Math.min(Math.max(x, from), to) - from) / (to - from)).toFixed(1);
    const of = (y) => +(bottom - (bottom - top) * (Math.min(Math.max(y, low), high) - low) / (high - low)).toFixed(1);
    const grid = curve.line.map((_, i) => curve.from + (curve.to - curve.from) * i / (curve.line.length - 1));
    const path = (xs, ys) => xs.map((x, i) => `${i ? "L" : "M"}${at(x)} ${of(ys[i])}`).join("");
    const svg = node("svg", {viewBox: `0 0 ${wide} ${tall}`, width: "100%", height: tall, role: "img",
      class: `c${colour}`, "aria-label": `score over compute, ${data.rows[open].told}`});
    const rect = (kind, x1, x2) => x2 > x1 && svg.append(
      node("rect", {class: kind, x: x1, y: top, width: (x2 - x1).toFixed(1), height: bottom - top}));

    rect("past", at(curve.seen), right);
    if (curve.opens !== null) rect("open", at(curve.opens), curve.closes === null ? right : at(curve.closes));
    const [ticks, digits] = steps(low, high);
    for (const y of ticks) {
      svg.append(node("path", {class: "frame", d: `M${left} ${of(y)}H${right}`}));
      const told = curve.share ? `${(100 * y).toFixed(Math.max(0, digits - 2))}%` : y.toFixed(digits);
      svg.append(node("text", {x: left - 7, y: of(y) + 4, "text-anchor": "end"}, told.replace("-", "−")));
    }
    const first = Math.ceil(from), every = Math.max(1, Math.ceil((to - from) / (wide / 75)));
    for (let x = first; x <= to + 1e-9; x += every) {
      svg.append(node("path", {class: "frame", d: `M${at(x)} ${top}V${bottom + 4}`}));
      svg.append(node("text", {x: at(x), y: bottom + 18, "text-anchor": at(x) > right - 12 ? "end" : "middle"}, powers(x)));
    }
    svg.append(node("text", {x: (left + right) / 2, y: tall - 5, "text-anchor": "middle"}, "training compute (FLOPs)"));
    svg.append(node("text", {x: 4, y: 13}, `${data.rows[open].metric}${curve.unit ? `, ${curve.unit}` : ""} (${curve.up ? "higher" : "lower"} is better)`));
    if (at(curve.seen) < right - 85) {
      svg.append(node("text", {x: at(curve.seen) + 4, y: top + 12}, "not measured"));
    }
    for (const [name, value] of curve.refs) {
      svg.append(node("path", {class: "ref", d: `M${left} ${of(value)}H${right}`}));
      svg.append(node("text", {x: right - 4, y: of(value) - 4, "text-anchor": "end"}, `${name} ${(100 * value).toFixed(1)}%`));
    }
    if (curve.low !== null) {
      const known = grid.map((_, i) => i).filter((i) => curve.low[i] !== null && curve.high[i] !== null);
      const back = known.slice().reverse();
      const edge = [...known.map((i) => [grid[i], curve.high[i]]), ...back.map((i) => [grid[i], curve.low[i]])];
      svg.append(node("path", {class: "range", d: path(edge.map((p) => p[0]), edge.map((p) => p[1])) + "Z"}));
    }
    const radius = curve.y.length > 150 ? 3 : 4;
    curve.y.forEach((y, i) => {
      const [name, size, shape] = data.runs[set.run[i]];
      svg.append(node("path", {
        class: `mk ${set.final[i] === "1" ? "full" : "hollow"} ${size < 0 ? "kx" : `k${size}`}`,
        d: shapes[shape](radius), transform: `translate(${at(set.x[i])} ${of(y)})`,
      }, node("title", {}, `${name}: ${+y.toPrecision(4)} at ${compute(set.x[i])} FLOPs`)));
    });
    const seen = grid.filter((x) => x <= curve.seen + 1e-6).length;
    svg.append(node("path", {class: "fit", d: path(grid.slice(0, seen), curve.line)}));
    svg.append(node("path", {class: "fit ahead", d: path(grid.slice(Math.max(0, seen - 1)), curve.line.slice(Math.max(0, seen - 1)))}));
    const mark = (x, name, line) => {
      if (x < from || x > to) return;
      const end = at(x) > (left + right) / 2;
      svg.append(node("path", {class: "edge", d: `M${at(x)} ${top}V${bottom}`}));
      svg.append(node("text", {class: "label", x: at(x) + (end ? -4 : 4), y: top + 12 + 15 * line, "text-anchor": end ? "end" : "start"}, name));
    };
    if (curve.opens !== null) mark(curve.opens, curve.before ? "open before the data" : `opens ${compute(curve.opens)}`, 0);
    if (curve.closes !== null && curve.closes <= curve.seen) mark(curve.closes, `closes ${compute(curve.closes)}`, 1);
    return svg;
  };

  const legend = (curve) => {
    const set = data.sets[curve.set], used = new Set(set.run);
    const items = [];
    const item = (kind, shape, name) => {
      const svg = node("svg", {viewBox: "0 0 14 12", "aria-hidden": "true"},
        node("path", {class: `mk ${kind}`, d: shapes[shape](3.8), transform: "translate(7 6)"}));
      const made = element("li", name);
      made.prepend(svg);
      items.push(made);
    };
    const there = (at, i) => Array.from(used).some((run) => data.runs[run][at] === i);
    data.sizes.forEach((name, i) => there(1, i) && item(`full k${i}`, 0, `${name} parameters`));
    if (data.families.length > 1) data.families.forEach((name, i) => there(2, i) && item("full kx", i, name));
    if (set.final.includes("0")) item("hollow kx", 0, "checkpoint before the end");
    if (curve.of > curve.y.length) items.push(element("li", `${curve.y.length} of ${curve.of} scores drawn`));
    return items;
  };

  const show = (i) => {
    open = i;
    const one = data.rows[i], curve = data.curves[i];
    const name = get("curve-name");
    name.replaceChildren(one.task, element("small", ` ${one.told}`));
    const same = data.rows.map((_, k) => k).filter((k) => data.rows[k].task === one.task);
    get("curve-metrics").replaceChildren(...(same.length < 2 ? [] : same.map((k) => {
      const button = element("button", data.rows[k].label, {type: "button", "aria-pressed": String(k === i)});
      button.addEventListener("click", () => { show(k); get("curve-metrics").children[same.indexOf(k)].focus(); });
      return button;
    })));
    get("curve-picture").replaceChildren(draw(curve, one.colour));
    get("curve-legend").replaceChildren(...legend(curve));
    get("curve-evidence").textContent = one.evidence;
    get("curve-figures").replaceChildren(...one.figures.map(([label, value]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", label), element("dd", value));
      return pair;
    }));
  };
  const step = (by) => {
    // In the order of the table as it is sorted and filtered now.
    const shown = rows.filter((row) => !row.hidden).map((row) => +row.dataset.row);
    if (shown.length) show(shown[(Math.max(0, shown.indexOf(open)) + by + shown.length) % shown.length]);
  };
  document.addEventListener("click", (event) => {
    const place = event.target.closest("[data-open], #tasks-rows tbody tr");
    if (!place) return;
    // Who marks text in a row does not ask for its curve.
    if (!event.target.closest("button") && String(getSelection()) !== "") return;
    if (!dialog.open) dialog.showModal();  // before it is drawn, which asks for its width
    show(+(place.dataset.open ?? place.dataset.row));
    dialog.scrollTop = 0;
  });
  get("curve-before").addEventListener("click", () => step(-1));
  get("curve-after").addEventListener("click", () => step(1));
  get("curve-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  addEventListener("resize", () => dialog.open && show(open));
})();
