
"use strict";
// Tables that sort, search and keep only the rows in sight in the document.
const calibTables = (() => {
  const ROW = 34;      // px, as .window td in page.css
  const SPARE = 8;     // rows kept above and below the window
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  const digits = (value) => {
    const number = Number(value);
    if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
    if (number === 0) return "0";
    const size = Math.abs(Number(number.toPrecision(3)));  // rounded first, so that .9997 becomes 1.00 and not 1.000
    if (size < 1e-4 || size >= 1e6) return number.toExponential(2).replaceAll("-", "−");
    return number.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size)))).replace("-", "−");
  };
  const decimals = (places) => (value) =>
    Number.isFinite(Number(value)) ? Number(value).toFixed(places).replace(/^-(?=0\.0*$)/, "").replace("-", "−") : digits(value);
  const megabytes = (value) => (value >= 1e6 ? `${digits(value / 1e6)} MB` : `${digits(value / 1e3)} kB`);
  const formats = {
    text: String,
    precision: String,
    link: (value) => value[0],
    labelled: (value) => value[1],
    count: (value) => Number(value).toLocaleString("en"),
    db: (value) => `${decimals(1)(value)} dB`,
    ms: (value) => `${digits(value)} ms`,
    us: (value) => `${digits(value * 1000)} µs`,
    share: (value) => (value === 0 ? "0 %" : value < 1e-4 ? "<0.01 %" : `${digits(value * 100)} %`),
    ratio: (value) => `${decimals(2)(value)}×`,
    bytes: megabytes,
    seconds: (value) => `${digits(value)} s`,
    number: digits,
  };
  const isText = (column) => ["text", "precision", "link"].includes(column.kind);
  const isMissing = (value) => value === null || value === "";
  const shown = (column, value) => (isMissing(value) ? "–" : formats[column.kind](value));

  // Keeps more of the end: layer names share their beginnings. OpenVINO's ONNX frontend ends the name of every
  // convolution that had a bias with /WithoutBiases, which tells nothing.
  const shorten = (name, width) => {
    const text = name.replace(/\/WithoutBiases$/, "");
    if (text.length <= width) return text;
    const head = Math.floor((width - 1) / 3);
    return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
  };

  // For narrow pages: without the type of a layer, which the next column says, and the names of a matrix's settings.
  const brief = (name) => shorten(
    name.replace(/\/(WithoutBiases|Convolution|GroupConvolution|ConvolutionBackpropData|MatMul|Add)$/, "")
      .replace(/([/,])[^/,=]+=/g, "$1"), 18);

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const compare = (column) => (a, b) => {
    if (Array.isArray(a)) [a, b] = [a[0], b[0]];
    return isText(column) ? order.compare(a, b) : Number(a) - Number(b);
  };

  class Grid {
    constructor(place, table, onOpen) {
      this.place = place;
      this.table = table;
      this.onOpen = onOpen;
      this.visible = table.columns.map((column, i) => ({ ...column, i })).filter((column) => !column.hidden);
      this.texts = null;
      this.rows = table.rows.map((_, i) => i);
      this.sorting = null;
      this.open = -1;
      this.extra = 0;    // px, height of the details below the open row
      this.build();
      this.choose();
    }

    build() {
      const { noun, filters } = this.table;
      this.search = make("input", { type: "search", placeholder: `Search ${noun}s` });
      this.search.setAttribute("aria-label", `Search ${noun}s`);
      this.filter = make("select", {}, make("option", { value: "", textContent: `all ${noun}s` }));
      this.filter.setAttribute("aria-label", `Which ${noun}s`);
      for (const name of Object.keys(filters)) {
        this.filter.append(make("option", { value: name, textContent: `${name} (${filters[name].length})` }));
      }
      this.count = make("output");
      const tools = make("div", { className: "tools" }, this.search);
      if (Object.keys(filters).length) tools.append(this.filter);
      tools.append(this.count);
      this.heads = this.visible.map((column) => this.head(column));
      this.body = make("tbody");
      const table = make("table", {}, this.columnWidths(), make("thead", {}, make("tr", {}, ...this.heads)), this.body);
      table.setAttribute("aria-label", this.place.dataset.label);
      this.aria = table;
      this.window = make("div", { className: "window", tabIndex: 0 }, table);
      this.window.setAttribute("role", "region");
      this.window.setAttribute("aria-label", this.place.dataset.label);
      this.hint = make("p", { className: "hint", textContent: "More columns to the right: scroll the table.", hidden: true });
      this.place.append(tools, this.window, this.hint);
      this.search.addEventListener("input", () => this.choose());
      this.filter.addEventListener("change", () => this.choose());
      this.window.addEventListener("scroll", () => this.draw(), { passive: true });
      new ResizeObserver(() => this.draw()).observe(this.window);
    }

    columnWidths() {
      this.narrow = document.documentElement.clientWidth < 600;
      const group = make("colgroup");
      let total = 0;
      for (const [place, column] of this.visible.entries()) {
        const wanted = column.width || Math.max(column.title.length + 2, 8);
        const characters = this.narrow && place === 0 ? Math.min(wanted, 22) : wanted;
        const col = make("col");
        col.style.width = `${characters * 7.6 + 20}px`;
        total += characters * 7.6 + 20;
        group.append(col);
      }
      this.width = total;
      return group;
    }

    head(column) {
      const button = make("button", { type: "button", textContent: column.title, title: column.help || `sort by ${column.title}` });
      button.addEventListener("click", () => this.sortBy(column));
      const head = make("th", { scope: "col", className: isText(column) ? "" : "number" }, button);
      return head;
    }

    // First click ascending for text, descending for numbers; second click the other way; third the original order.
    sortBy(column) {
      const first = isText(column) ? 1 : -1;
      if (!this.sorting || this.sorting.column !== column) this.sorting = { column, sign: first };
      else if (this.sorting.sign === first) this.sorting = { column, sign: -first };
      else this.sorting = null;
      this.heads.forEach((head, i) => {
        if (this.sorting && this.visible[i] === this.sorting.column) {
          head.setAttribute("aria-sort", this.sorting.sign > 0 ? "ascending" : "descending");
        } else head.removeAttribute("aria-sort");
      });
      this.choose();
    }

    // All words of each row, put together at the first search.
    haystack() {
      const { columns, rows } = this.table;
      const texts = columns.map((column, i) => ({ column, i })).filter(({ column }) => isText(column));
      const words = (row) => texts.map(({ column, i }) => (isMissing(row[i]) ? "" : shown(column, row[i]))).join("\n");
      return (this.texts ??= rows.map((row) => words(row).toLowerCase()));
    }

    choose() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const base = this.filter.value ? this.table.filters[this.filter.value] : this.table.rows.map((_, i) => i);
      const texts = words.length ? this.haystack() : [];
      this.rows = base.filter((i) => words.every((word) => texts[i].includes(word)));
      if (this.sorting) {
        const { column, sign } = this.sorting;
        const by = compare(column);
        const value = (i) => this.table.rows[i][column.i];
        this.rows.sort((a, b) =>
          isMissing(value(a)) - isMissing(value(b)) || (isMissing(value(a)) ? 0 : sign * by(value(a), value(b))) || a - b);
      }
      const all = this.table.rows.length;
      const total = `${all} ${this.table.noun}${all === 1 ? "" : "s"}`;
      this.count.value = this.rows.length === all ? total : `${this.rows.length} of ${total}`;
      this.aria.setAttribute("aria-rowcount", String(this.rows.length + 1));
      this.window.scrollTop = 0;
      this.draw();
    }

    draw() {
      this.hint.hidden = this.window.scrollWidth - this.window.clientWidth - this.window.scrollLeft < 8;
      const height = this.window.clientHeight || 620;
      const open = this.open < 0 ? -1 : this.rows.indexOf(this.open);
      // The row at a height; those behind the open one are further down by its details.
      const at = (px) => (open < 0 || px <= (open + 1) * ROW ? px / ROW : Math.max(open + 1, (px - this.extra) / ROW));
      const first = Math.max(0, Math.floor(at(this.window.scrollTop)) - SPARE);
      const last = Math.min(this.rows.length, Math.ceil(at(this.window.scrollTop + height)) + SPARE);
      const key = `${first} ${last} ${this.open} ${this.window.clientWidth}`;
      if (key === this.drawn && this.drawnRows === this.rows) return;
      this.drawn = key;
      this.drawnRows = this.rows;
      const details = open >= first && open < last ? this.details() : null;
      const rows = [this.gap(first, open >= 0 && open < first)];
      for (let place = first; place < last; place += 1) {
        rows.push(this.row(this.rows[place], place));
        if (place === open) rows.push(details);
      }
      rows.push(this.gap(this.rows.length - last, open >= last));
      if (!this.rows.length) {
        rows.push(make("tr", {}, make("td", { className: "empty", colSpan: this.visible.length, textContent: `No ${this.table.noun} matches.` })));
      }
      this.body.replaceChildren(...rows);
      if (details) this.extra = details.offsetHeight;
    }

    gap(count, withDetails) {
      const cell = make("td", { colSpan: this.visible.length });
      cell.style.height = `${count * ROW + (withDetails ? this.extra : 0)}px`;
      const row = make("tr", { className: "gap", hidden: count === 0 }, cell);
      row.setAttribute("aria-hidden", "true");
      return row;
    }

    row(index, place) {
      const row = make("tr", { className: index === this.open ? "open" : "" });
      row.setAttribute("aria-rowindex", String(place + 2));
      row.dataset.row = String(index);
      for (const [i, column] of this.visible.entries()) row.append(this.cell(column, this.table.rows[index][column.i], i === 0));
      row.querySelector("button")?.setAttribute("aria-expanded", String(index === this.open));
      row.addEventListener("click", () => (index === this.open ? this.close() : this.show(index)));
      return row;
    }

    cell(column, value, first) {
      const text = shown(column, value);
      const cell = make("td", { className: isText(column) ? "" : "number" });
      if (isText(column)) cell.title = text;
      if (column.kind === "precision" && !isMissing(value)) cell.append(precision(text));
      else if (column.kind === "link" && !isMissing(value) && value[1]) cell.append(make("a", { href: value[1], textContent: first && this.narrow ? brief(text) : text }));
      else if (first) cell.append(make("button", { type: "button", textContent: this.narrow ? brief(text) : text }));
      else cell.textContent = text;
      return cell;
    }

    // Everything that is known about the open row, in full length, as a row below it that stays in sight sideways.
    details() {
      const list = make("dl", { className: "pairs" });
      this.table.columns.forEach((column, i) => {
        const value = this.table.rows[this.open][i];
        if (!isMissing(value)) list.append(make("div", {}, make("dt", { textContent: column.title }), make("dd", { textContent: shown(column, value) })));
      });
      const box = make("div", { className: "details" }, list);
      box.style.width = `${this.window.clientWidth}px`;
      return make("tr", { className: "gap opened" }, make("td", { colSpan: this.visible.length }, box));
    }

    show(index) {
      const focused = this.body.contains(document.activeElement);
      this.open = index;
      this.draw();
      const row = this.body.querySelector(`tr[data-row="${index}"]`);
      if (focused) row?.querySelector("button, a")?.focus({ preventScroll: true });
      this.body.querySelector("tr.opened")?.scrollIntoView({ block: "nearest" });
      row?.scrollIntoView({ block: "nearest" });
      if (this.onOpen) this.onOpen(this.table.rows[index], index);
    }

    close() {
      const index = this.open;
      this.open = -1;
      this.draw();
      this.body.querySelector(`tr[data-row="${index}"] button`)?.focus({ preventScroll: true });
    }

    // Shows a row that was chosen elsewhere, whatever is searched for.
    reveal(index) {
      if (!this.rows.includes(index)) {
        this.search.value = "";
        this.filter.value = "";
        this.choose();
      }
      this.window.scrollTop = Math.max(0, this.rows.indexOf(index) * ROW - this.window.clientHeight / 2);
      this.show(index);
    }
  }

  const precision = (text) => {
    const kind = text.endsWith("!") ? "odd" : ["int8", "i8", "u8"].includes(text.toLowerCase()) ? "int8" : "";
    return make("span", { className: `precision ${kind}`, textContent: text });
  };

  return { Grid, make, formats, shorten };
})();
