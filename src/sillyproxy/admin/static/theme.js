/*
 * Light or dark: what the system prefers, until somebody chooses.
 *
 * A classic script in the head, so that a chosen theme is set before the first paint.
 */
"use strict";

(() => {
  const KEY = "sillyproxy-theme";
  const ORDER = ["auto", "light", "dark"];
  const root = document.documentElement;

  // Storage may be forbidden; the choice is then forgotten with the page.
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const write = (theme) => {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      /* forgotten with the page */
    }
  };
  const apply = (theme) => {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
  };

  let theme = ORDER.includes(read()) ? read() : "auto";
  apply(theme);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.textContent = `Theme: ${theme}`;
    };
    show();
    button.addEventListener("click", () => {
      theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
      apply(theme);
      write(theme);
      show();
      // Lines and names are given colors that are legible on the new ground.
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
