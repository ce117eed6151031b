// The theme wraps tables in a box that scrolls sideways, as outputs of notebooks do: let the keyboard reach it.
addEventListener("load", () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .output")) box.tabIndex = 0;
});
