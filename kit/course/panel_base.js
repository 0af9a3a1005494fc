// What all panels share; it stands before the code of each panel.
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const ownId = () => `kit-${Math.random().toString(36).slice(2)}`; // no other element has it

function asPanel(el, name) {
  el.classList.add("kit-base", name);
  // A key is for the panel: JupyterLab would take an x for "cut this cell". But these go through to
  // it: Shift, Ctrl or Alt with Enter runs the cell, Ctrl+S saves the notebook.
  el.addEventListener("keydown", (event) => {
    const { key, shiftKey, ctrlKey, altKey, metaKey } = event;
    const runs = key === "Enter" && (shiftKey || ctrlKey || altKey || metaKey);
    const saves = key.toLowerCase() === "s" && (ctrlKey || metaKey);
    if (!runs && !saves) event.stopPropagation();
  });
}

