
"use strict";
// The layers as a graph: blocks fold and unfold, nodes are coloured by what is chosen and lead to the table of layers.
const calibNetwork = (() => {
  const WIDTH = 208, HEIGHT = 46, GAP_X = 22, GAP_Y = 30, PAD = 10;
  const OPEN_AT_FIRST = 24;   // nodes that are shown at first, at most
  const { make, formats, shorten } = calibTables;
  const svg = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  class Network {
    constructor(place, data, table, onPick) {
      Object.assign(this, { place, data, onPick, mode: "precision", picked: -1, focus: "" });
      const at = Object.fromEntries(table.columns.map((column, i) => [column.title, i]));
      const value = (row, title) => (at[title] === undefined ? null : row[at[title]]);
      this.layers = table.rows.map((row) => ({
        name: row[0], type: value(row, "type") ?? "", executed: value(row, "executed") ?? "",
        output: value(row, "output") ?? "", sqnr: value(row, "SQNR"), time: value(row, "INT8 time"),
      }));
      this.count = this.layers.length;
      this.position = [];
      data.order.forEach((node, i) => { this.position[node] = i; });
      this.open = this.openAtFirst();
      this.build();
      this.draw();
    }

    // Outer blocks first, as long as few nodes are shown.
    openAtFirst() {
      const members = this.data.blocks.map(() => 0);
      for (const block of [...this.data.of, ...this.data.blocks.map(([, outer]) => outer)]) if (block >= 0) members[block] += 1;
      const open = new Set();
      let count = this.data.of.filter((block) => block < 0).length + this.data.blocks.filter(([, outer]) => outer < 0).length;
      this.data.blocks.forEach(([, outer], block) => {
        if ((outer >= 0 && !open.has(outer)) || count + members[block] - 1 > OPEN_AT_FIRST) return;
        open.add(block);
        count += members[block] - 1;
      });
      return open;
    }

    build() {
      const modes = { precision: "executed precision" };
      if (this.layers.some((layer) => layer.time !== null)) modes.time = "time in INT8";
      if (this.layers.some((layer) => layer.sqnr !== null)) modes.error = "error (SQNR)";
      this.select = make("select", {}, ...Object.entries(modes).map(([value, textContent]) => make("option", { value, textContent })));
      this.select.setAttribute("aria-label", "Colour of the graph");
      this.select.addEventListener("change", () => { this.mode = this.select.value; this.draw(); });
      const button = (text, action) => {
        const made = make("button", { type: "button", textContent: text });
        made.addEventListener("click", action);
        return made;
      };
      this.legend = make("output");
      this.foldAll = button("Fold all", () => { this.open.clear(); this.draw(); });
      this.unfoldAll = button("Unfold all", () => { this.open = new Set(this.data.blocks.keys()); this.draw(); });
      this.chips = make("div", { className: "tools chips" });
      this.window = make("div", { className: "window network-window" });
      const tools = make("div", { className: "tools" }, this.select);
      if (this.data.blocks.length) tools.append(this.foldAll, this.unfoldAll);
      tools.append(this.legend);
      this.place.append(tools, this.chips, this.window);
    }

    // The outermost folded block around each node, or the node itself.
    items() {
      const folded = [];
      this.data.blocks.forEach(([, outer], block) => {
        folded[block] = outer >= 0 && folded[outer] !== -1 ? folded[outer] : this.open.has(block) ? -1 : block;
      });
      const items = new Map();
      const keys = this.data.of.map((block, node) => (block >= 0 && folded[block] !== -1 ? `b${folded[block]}` : `n${node}`));
      for (const node of this.data.order) {
        const key = keys[node];
        if (!items.has(key)) items.set(key, { key, nodes: [], before: new Set(), after: new Set(), rank: 0 });
        items.get(key).nodes.push(node);
      }
      this.data.follows.forEach((sources, node) => {
        for (const source of sources) {
          if (keys[source] !== keys[node]) {
            items.get(keys[node]).before.add(keys[source]);
            items.get(keys[source]).after.add(keys[node]);
          }
        }
      });
      return items;
    }

    // Layers of a drawing: the longest way from the beginning; an edge that leads back between blocks does not count.
    arrange(items) {
      const place = new Map([...items.keys()].map((key, i) => [key, i]));
      const ranks = [];
      for (const item of items.values()) {
        const before = [...item.before].filter((key) => place.get(key) < place.get(item.key)).map((key) => items.get(key));
        item.rank = Math.max(-1, ...before.map((one) => one.rank)) + 1;
        item.wish = before.length ? before.reduce((sum, one) => sum + one.x, 0) / before.length : 0;
        const row = (ranks[item.rank] ??= []);
        item.x = Math.max(item.wish, row.length ? Math.max(...row.map((one) => one.x)) + WIDTH + GAP_X : item.wish);
        item.y = PAD + item.rank * (HEIGHT + GAP_Y);
        row.push(item);
      }
      const all = [...items.values()];
      const left = Math.min(...all.map((item) => item.x)) - PAD;
      for (const item of all) item.x -= left;
      return ranks;
    }

    node(index) {
      if (index < this.count) return this.layers[index];
      const [name, type] = this.data.joins[index - this.count];
      return { name, type, executed: "", output: "", sqnr: null, time: null, join: true };
    }

    describe(item) {
      const block = item.key.startsWith("b");
      const nodes = item.nodes.map((node) => this.node(node));
      const layers = nodes.filter((node) => !node.join);
      const int8 = layers.filter((layer) => layer.executed.startsWith("i8")).length;
      const times = layers.map((layer) => layer.time).filter((time) => time !== null);
      const errors = layers.map((layer) => layer.sqnr).filter((value) => value !== null).map(Number);
      const found = {
        block, join: !block && nodes[0].join, int8, layers: layers.length,
        time: times.length ? times.reduce((sum, time) => sum + time, 0) : null,
        sqnr: errors.length ? Math.min(...errors) : null,
        title: block ? this.data.blocks[Number(item.key.slice(1))][0] : nodes[0].join ? nodes[0].type : nodes[0].name,
        type: block ? `${layers.length} layer${layers.length === 1 ? "" : "s"}` : nodes[0].type,
      };
      const { executed, output } = nodes[0];
      found.precision = block ? `${int8} of ${layers.length} in INT8`
        : found.join ? "" : [executed || "not known", output].filter(Boolean).join(" → ");
      found.value = found.join ? nodes[0].name : this.mode === "time" ? (found.time === null ? "no time" : formats.us(found.time))
        : this.mode === "error" ? (found.sqnr === null ? "no SQNR" : formats.db(found.sqnr)) : found.precision;
      return found;
    }

    // From 0, nothing to see, to 4, where most of the time or the error is; "" where nothing is known.
    heat(found, slowest) {
      if (this.mode === "precision" || found.join) return "";
      if (this.mode === "time") return found.time === null ? "" : String(Math.min(4, Math.floor((5 * found.time) / (slowest || 1))));
      return found.sqnr === null ? "" : String(Math.max(0, Math.min(4, Math.floor((50 - found.sqnr) / 10))));
    }

    draw() {
      const items = this.items();
      const ranks = this.arrange(items);
      const all = [...items.values()];
      for (const item of all) item.found = this.describe(item);
      const slowest = Math.max(0, ...all.map((item) => item.found.time ?? 0));
      const wide = Math.max(...all.map((item) => item.x)) + WIDTH + 60;
      const high = ranks.length * (HEIGHT + GAP_Y) + PAD;
      const drawing = svg("svg", { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, role: "group" });
      drawing.setAttribute("aria-label", `${this.place.dataset.label}: ${this.count} layers, ${all.length} nodes shown. Arrow keys follow the edges.`);
      const head = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z" }));
      drawing.append(svg("defs", {}, head));
      for (const item of all) for (const key of item.before) drawing.append(this.edge(items.get(key), item));
      this.elements = new Map();
      for (const item of all) {
        const element = this.box(item, this.heat(item.found, slowest));
        this.elements.set(item.key, element);
        drawing.append(element);
      }
      Object.assign(this, { shown: items, ranks });
      const first = this.elements.get(this.focus) ?? this.elements.values().next().value;
      if (first) first.setAttribute("tabindex", "0");
      this.window.replaceChildren(drawing);
      this.list();
      this.legend.value = {
        precision: "green: INT8; grey: floating point; the second type is what the layer writes",
        time: "the darker, the more of the time", error: "the darker, the lower the SQNR",
      }[this.mode];
    }

    edge(from, to) {
      const near = to.rank === from.rank + 1;
      const [x1, y1] = near ? [from.x + WIDTH / 2, from.y + HEIGHT] : [from.x + WIDTH, from.y + HEIGHT / 2];
      const [x2, y2] = near ? [to.x + WIDTH / 2, to.y] : [to.x + WIDTH, to.y + HEIGHT / 2];
      const bend = near ? GAP_Y / 2 : 24 + Math.min(30, 4 * Math.abs(to.rank - from.rank));
      const d = near ? `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`
        : `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 + bend} ${y2} ${x2} ${y2}`;
      return svg("path", { class: to.rank > from.rank ? "edge" : "edge back", d, "marker-end": "url(#arrow)", "aria-hidden": "true" });
    }

    box(item, heat) {
      const { found } = item;
      const kind = found.join ? "join" : found.block ? "block" : "layer";
      const share = found.layers ? found.int8 / found.layers : 0;
      const picked = item.nodes.includes(this.picked) ? " picked" : "";
      const group = svg("g", { class: `node ${kind}${heat && ` heat heat${heat}`}${picked}`, transform: `translate(${item.x} ${item.y})`, tabindex: "-1", role: "button" });
      group.dataset.key = item.key;
      group.append(svg("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: 6 }));
      if (heat) group.append(svg("rect", { class: "mark", width: 12, height: HEIGHT, rx: 6 }));
      else if (!found.join && this.mode === "precision") {
        group.append(svg("rect", { class: "mark float", width: 12, height: HEIGHT, rx: 4 }));
        group.append(svg("rect", { class: "mark int8", width: 12, height: HEIGHT * share, rx: 4 }));
      }
      const text = (name, y, words) => {
        const made = svg("text", { class: name, x: 20, y });
        made.textContent = words;
        return made;
      };
      // The type at the end of a long name would leave no room for what tells it from others.
      const long = found.title.length > 22 && found.title.endsWith(`/${found.type}`);
      const name = long ? found.title.slice(0, -found.type.length - 1) : found.title;
      const title = shorten((found.block ? "▸ " : "") + name, 22);
      const value = shorten(found.value, 24);
      group.append(text("title", 19, title), " ", text("value", 36, value));  // the space parts them for who asks by name
      const facts = [found.type, found.precision, found.time === null ? "" : formats.us(found.time), found.sqnr === null ? "" : formats.db(found.sqnr)].filter(Boolean);
      const words = `${found.block ? "block " : ""}${found.title}: ${facts.join(", ")}`;
      // What is seen comes first, as somebody says it who speaks to the page; then what is shortened or not shown.
      const full = title.endsWith(found.title) ? [] : [found.title];
      const rest = [...(found.block ? ["block"] : []), ...full, ...facts.filter((fact) => fact !== found.value)];
      group.setAttribute("aria-label", [`${title.replace("▸ ", "")} ${value}`, ...rest].join(", "));
      if (found.block) group.setAttribute("aria-expanded", "false");
      const tip = svg("title");
      tip.textContent = words;
      group.append(tip);
      group.addEventListener("click", () => this.act(item));
      group.addEventListener("keydown", (event) => this.key(event, item));
      group.addEventListener("focus", () => this.hold(item.key));
      return group;
    }

    path(block) {
      const [label, outer] = this.data.blocks[block];
      return outer < 0 ? label : `${this.path(outer)} › ${label}`;
    }

    // The open blocks, each a button that folds it.
    list() {
      const seen = [...this.open].filter((block) => {
        const outer = this.data.blocks[block][1];
        return outer < 0 || this.open.has(outer);
      }).sort((a, b) => a - b);
      const few = seen.slice(0, 12);
      this.chips.hidden = !few.length;
      this.chips.replaceChildren(...few.map((block) => {
        const name = this.path(block);
        const made = make("button", { type: "button", textContent: `▾ ${shorten(name, 32)}`, title: `fold ${name}` });
        made.addEventListener("click", () => { this.open.delete(block); this.focus = `b${block}`; this.draw(); this.refocus(); });
        return made;
      }), ...(seen.length > few.length && few.length ? [`and ${seen.length - few.length} more`] : []));
    }

    act(item) {
      if (item.found.block) {
        const first = item.nodes[0];
        this.open.add(Number(item.key.slice(1)));
        this.focus = "";
        this.draw();
        const shown = [...this.shown.values()].find((one) => one.nodes.includes(first));
        this.focus = shown.key;
        this.refocus();
      } else if (!item.found.join) {
        this.pick(item.nodes[0]);
        this.onPick(item.nodes[0]);
      }
    }

    refocus() {
      const element = this.elements.get(this.focus);
      if (element) element.focus();
    }

    hold(key) {
      const before = this.elements.get(this.focus);
      if (before) before.setAttribute("tabindex", "-1");
      this.focus = key;
      this.elements.get(key).setAttribute("tabindex", "0");
    }

    key(event, item) {
      const row = this.ranks[item.rank];
      const at = row.indexOf(item);
      const to = {
        ArrowDown: [...item.after][0], ArrowUp: [...item.before][0],
        ArrowRight: row[at + 1]?.key, ArrowLeft: row[at - 1]?.key,
      }[event.key];
      if (event.key === "Enter" || event.key === " ") this.act(item);
      else if (event.key === "Escape") this.fold(item);
      else if (to) {
        this.hold(to);
        this.refocus();
      } else if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
    }

    // Folds the innermost open block around a node.
    fold(item) {
      let block = item.found.block ? this.data.blocks[Number(item.key.slice(1))][1] : this.data.of[item.nodes[0]];
      while (block >= 0 && !this.open.has(block)) block = this.data.blocks[block][1];
      if (block < 0) return;
      this.open.delete(block);
      this.focus = `b${block}`;
      this.draw();
      this.refocus();
    }

    pick(node) {
      for (const element of this.elements.values()) element.classList.remove("picked");
      this.picked = node;
      this.elements.get(`n${node}`)?.classList.add("picked");
    }

    // Unfolds what is around a layer, marks it and brings it into sight, without moving the page.
    reveal(node) {
      const closed = [];
      for (let block = this.data.of[node]; block >= 0; block = this.data.blocks[block][1]) if (!this.open.has(block)) closed.push(block);
      for (const block of closed) this.open.add(block);
      if (closed.length) this.draw();
      this.pick(node);
      const item = this.shown.get(`n${node}`);
      this.window.scrollTo(item.x - this.window.clientWidth / 2 + WIDTH / 2, item.y - this.window.clientHeight / 2);
    }
  }

  return { Network };
})();
