// What all panels share; it stands before the code of each panel.
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const ownId = () => `kit-${Math.random().toString(36).slice(2)}`; // no other element has it

function asPanel(el, name) {
  el.classList.add("kit-base", name);
  // A key is for the panel: JupyterLab would take an x for "cut this cell".
  el.addEventListener("keydown", (event) => event.stopPropagation());
}

