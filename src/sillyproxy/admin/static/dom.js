/*
 * The page's only ways to write into itself.
 *
 * Text is always set as text, so what an endpoint, a color or a log line is called can
 * never become markup. What has not changed is not touched: the page redraws each second,
 * and a selection, a scroll position or a screen reader's place should survive that.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Return a new element: properties, then children (nodes, or text). */
export function h(name, properties = {}, ...children) {
  const node = document.createElement(name);
  set(node, properties);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Return a new SVG element. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  set(node, attributes);
  node.append(...children);
  return node;
}

/** Set attributes that have changed; null takes one away. */
export function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) {
      if (node.hasAttribute(name)) node.removeAttribute(name);
    } else if (node.getAttribute(name) !== String(value)) {
      node.setAttribute(name, value);
    }
  }
}

/** Set a node's text if it has changed. */
export function write(node, text) {
  const only = node.firstChild;
  // Changing a text node is cheaper than replacing it.
  if (only && only === node.lastChild && only.nodeType === Node.TEXT_NODE) {
    if (only.data !== text) only.data = text;
  } else if (node.textContent !== text) node.textContent = text;
}

/** Show or hide. */
export function show(node, visible) {
  // The attribute: an SVG element knows no such property.
  node.toggleAttribute("hidden", !visible);
}

/** Return one of the page's icons; what it means is said in text beside it. */
export function icon(name) {
  const use = svg("use", { href: `#icon-${name}` });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, use);
}

/** Change an icon to another. */
export function redraw(node, name) {
  set(node.firstChild, { href: `#icon-${name}` });
}

const kept = new WeakMap();

/**
 * Make a parent's children follow a list.
 *
 * `keyOf` names an item; `make` returns the parts of a new child, of which `node` is the
 * child itself; `update` writes an item into its parts. Children whose items are gone go.
 */
export function sync(parent, items, keyOf, make, update) {
  const before = kept.get(parent);
  if (!before) parent.replaceChildren();
  const now = new Map();
  items.forEach((item, place) => {
    const key = keyOf(item);
    if (now.has(key)) return;
    const parts = before?.get(key) ?? make(item);
    now.set(key, parts);
    update(parts, item, place);
  });
  for (const [key, parts] of before ?? []) if (!now.has(key)) parts.node.remove();
  let next = parent.firstChild;
  for (const { node } of now.values()) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  kept.set(parent, now);
  return now;
}
