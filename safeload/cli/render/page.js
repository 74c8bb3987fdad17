"use strict";
// Everything that is shown goes through textContent: nothing out of a file is ever markup.
(() => {
  const PAGE = 200;
  const byId = (id) => document.getElementById(id);
  const parsed = (id) => JSON.parse(byId(id).textContent);
  const STATES = ["allowed", "refused", "error", "skipped"];
  const WORST = { refused: 0, error: 1, allowed: 2, skipped: 3 };
  const rows = parsed("rows").map(([state, path, format, size, digest, findings, why, more]) => ({
    state, path, format, size, digest, findings, why, more,
    text: `${path}\n${format}\n${digest || ""}\n${findings.map((f) => `${f[0]} ${f[2]}`).join("\n")}\n${why || ""}`.toLowerCase(),
  }));
  const about = parsed("about");
  let shown = rows, page = 0, sort = { key: "state", down: false };
  const states = new Set();

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const size = (n) => {
    if (n === null) return "";
    for (const unit of ["B", "kB", "MB", "GB"]) {
      if (n < 1000) return unit === "B" ? `${n} B` : `${n.toFixed(1)} ${unit}`;
      n /= 1000;
    }
    return `${n.toFixed(1)} TB`;
  };
  const count = (n) => n.toLocaleString("en");

  const KEYS = {
    state: (row) => WORST[row.state],
    path: (row) => row.path,
    format: (row) => row.format,
    size: (row) => (row.size === null ? -1 : row.size),
    findings: (row) => row.findings.length + row.more,
    digest: (row) => row.digest || "",
  };
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

  const choose = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const format = byId("format").value;
    const rule = byId("rule").value;
    shown = rows.filter((row) =>
      (!states.size || states.has(row.state)) && (!format || row.format === format) &&
      (!rule || row.findings.some((f) => f[0] === rule)) && words.every((word) => row.text.includes(word)));
    const key = KEYS[sort.key];
    shown.sort((a, b) => (sort.down ? -1 : 1) * compare(key(a), key(b)) || compare(a.path, b.path));
    page = 0;
    draw();
  };

  const finding = ([rule, level, message, place, muted]) => {
    const item = element("li");
    item.append(element("b", rule, `level-${level}`), ` ${about.rules[rule] || ""}: `, element("code", message, muted ? "muted" : ""));
    if (place) item.append(element("span", ` at ${place}`, "place"));
    if (muted) item.append(element("span", ` (${muted})`, "place"));
    return item;
  };

  const line = (row) => {
    const made = element("tr", null, row.state);
    made.append(element("td", row.state, "state"));
    const path = element("td", null, "path");
    path.append(element("code", row.path));
    if (row.why && !row.findings.length) path.append(element("div", row.why, "place"));
    if (row.findings.length) {
      const list = element("ul", null, "findings");
      list.append(...row.findings.map(finding));
      if (row.more) list.append(element("li", `and ${count(row.more)} more`, "place"));
      path.append(list);
    }
    made.append(path, element("td", row.format, "format"), element("td", size(row.size), "number size"),
      element("td", row.findings.length + row.more || "", "number findings"), element("td", row.digest ? row.digest.slice(0, 12) : "", "digest"));
    if (row.digest && row.digest.length === 64) made.lastChild.title = `sha256:${row.digest}`;
    return made;
  };

  const draw = () => {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("body").replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(line));
    byId("caption").textContent = `${count(shown.length)} of ${count(rows.length)} files`;
    byId("page").textContent = `page ${count(page + 1)} of ${count(pages)}`;
    byId("before").disabled = page === 0;
    byId("after").disabled = page === pages - 1;
    for (const head of document.querySelectorAll("th")) {
      head.setAttribute("aria-sort", head.dataset.key === sort.key ? (sort.down ? "descending" : "ascending") : "none");
    }
    for (const tile of document.querySelectorAll(".tile")) tile.setAttribute("aria-pressed", String(states.has(tile.dataset.state)));
  };

  const options = (select, values) => {
    for (const [value, text] of values) {
      const option = element("option", text);
      option.value = value;
      select.append(option);
    }
  };

  for (const state of STATES) {
    const tile = element("button", null, `tile ${state}`);
    tile.type = "button";
    tile.dataset.state = state;
    tile.append(element("b", count(about.totals[state] || 0)), state);
    tile.addEventListener("click", () => {
      if (!states.delete(state)) states.add(state);
      choose();
    });
    byId("tiles").append(tile);
  }
  options(byId("format"), [...new Set(rows.map((row) => row.format).filter(Boolean))].sort().map((name) => [name, name]));
  options(byId("rule"), Object.entries(about.rules).sort().map(([id, name]) => [id, `${id} ${name}`]));
  byId("search").addEventListener("input", choose);
  byId("format").addEventListener("change", choose);
  byId("rule").addEventListener("change", choose);
  for (const head of document.querySelectorAll("th")) {
    head.firstChild.addEventListener("click", () => {
      sort = { key: head.dataset.key, down: sort.key === head.dataset.key ? !sort.down : ["size", "findings"].includes(head.dataset.key) };
      choose();
    });
  }
  byId("before").addEventListener("click", () => { page -= 1; draw(); });
  byId("after").addEventListener("click", () => { page += 1; draw(); });
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  byId("live").hidden = false;
  choose();
})();
