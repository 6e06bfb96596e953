// The last part of the module that is one journal.

function render({ model, el }) {
  const journal = new Journal(model, el);
  return () => journal.remove();
}

export default { render };
