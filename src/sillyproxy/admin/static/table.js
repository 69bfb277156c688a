/*
 * A table that follows a list.
 *
 * On a narrow screen each row becomes a block (tables.css). Browsers then forget that it was
 * a table; the roles say it again, so that a screen reader still finds rows and columns.
 */

import { h, set, show, sync, write } from "./dom.js";
import { NONE } from "./words.js";

export class Table {
  /**
   * `columns` are `{name, kind, text(item), draw(cell, item)}`: text to write, or a drawing
   * for what text cannot show. The first names its row. `empty` is said instead of
   * no rows. A table of the kind `dense` puts its cells in threes on a narrow screen.
   */
  constructor(mount, { caption, columns, keyOf, empty = "", kind = "" }) {
    this.columns = columns;
    this.keyOf = keyOf;
    const head = columns.map(({ name, kind = "" }) => h("th", { scope: "col", role: "columnheader", class: kind }, name));
    this.body = h("tbody", { role: "rowgroup" });
    this.table = h(
      "table",
      { role: "table", class: kind },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)),
      this.body,
    );
    this.empty = h("p", { class: "quiet" }, empty);
    mount.append(this.table, this.empty);
  }

  update(items) {
    show(this.table, items.length > 0);
    show(this.empty, items.length === 0);
    sync(this.body, items, this.keyOf, () => this.make(), (row, item) => {
      this.columns.forEach((column, place) => {
        if (column.draw) column.draw(row.cells[place], item);
        else {
          const text = column.text(item);
          write(row.cells[place], text);
          set(row.cells[place], { "data-none": text === NONE });
        }
      });
    });
  }

  make() {
    const cells = this.columns.map(({ name, kind = "" }, place) => {
      const attributes = { class: kind, "data-label": name };
      return place === 0
        ? h("th", { ...attributes, scope: "row", role: "rowheader" })
        : h("td", { ...attributes, role: "cell" });
    });
    return { node: h("tr", { role: "row" }, ...cells), cells };
  }
}

/** Return a cell's one child, made when it is first asked for. */
export function inside(cell, make) {
  cell.parts ??= make(cell);
  return cell.parts;
}

/** Write a color's name beside a swatch of it. */
export function writeColor(cell, name, inks) {
  const parts = inside(cell, () => {
    const text = h("span");
    const node = h("span", { class: "color" }, h("span", { class: "swatch", "aria-hidden": "true" }), text);
    cell.append(node);
    return { node, text };
  });
  write(parts.text, name);
  inks.dip(parts.node, name);
}
