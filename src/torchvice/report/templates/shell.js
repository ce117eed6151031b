// Common to every page: definitions on hover and focus, colours, help, and resizing, which calls the page's drawFigures.
for (const kind of ["pointerover", "focusin"]) {
  document.addEventListener(kind, (event) => {
    const term = event.target.closest?.(".term");
    if (!term) return;
    const [name, text] = D.definitions[term.dataset.term], box = term.getBoundingClientRect();
    showTip(kind === "focusin" ? box.left : event.clientX, kind === "focusin" ? box.bottom - 10 : event.clientY, el("p", {}, el("strong", {}, name)), el("p", {}, text));
  });
}
for (const kind of ["pointerout", "focusout"]) document.addEventListener(kind, (event) => { if (event.target.closest?.(".term")) hideTip(); });
addEventListener("scroll", hideTip, { passive: true });

const THEMES = { auto: ["◐", "as the system"], light: ["○", "light"], dark: ["●", "dark"] };

function setTheme(name) {
  const [mark, text] = THEMES[name], button = byId("theme");
  if (name === "auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = name;
  button.replaceChildren(el("span", { "aria-hidden": "true" }, `${mark} `), el("span", {}, name));
  button.setAttribute("aria-label", `${name}: colours ${text}`);
  button.dataset.chosen = name;
}

byId("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), next = names[(names.indexOf(byId("theme").dataset.chosen) + 1) % names.length];
  setTheme(next);
  try { localStorage.setItem("torchvice-theme", next); } catch { /* a browser may refuse storage to a file */ }
  dispatchEvent(new Event("recoloured"));
});
for (const kind of ["(prefers-color-scheme: dark)", "print"]) matchMedia(kind).addEventListener("change", () => dispatchEvent(new Event("recoloured")));

const help = byId("help");
byId("help-open").addEventListener("click", () => help.showModal());
byId("help-close").addEventListener("click", () => help.close());

let theme = "auto";
try { theme = localStorage.getItem("torchvice-theme") || "auto"; } catch { /* as above */ }
setTheme(THEMES[theme] ? theme : "auto");

let width = innerWidth, waiting = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;  // the address bar of a phone only changes the height
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawFigures, 120);
});
