(() => {
  const dialog = document.querySelector("dialog");
  const each = (name, act) => document.querySelectorAll(`path.${name}`).forEach(act);

  // A click enlarges a slice; a click or Escape puts it back.
  const enlarge = (figure) => {
    const copy = figure.cloneNode(true);
    const box = copy.querySelector("svg").viewBox.baseVal;
    copy.style.setProperty("--ratio", box.width / box.height);
    // layers that are hidden in the mosaic stay hidden in the copy
    const shown = [...figure.querySelectorAll("use")].map((use) => getComputedStyle(use).display);
    copy.querySelectorAll("use").forEach((use, place) => (use.style.display = shown[place]));
    dialog.replaceChildren(copy);
    dialog.showModal();
  };
  document.querySelectorAll("main figure").forEach((figure) => {
    figure.addEventListener("click", () => enlarge(figure));
    figure.addEventListener("keydown", (event) => event.key === "Enter" && enlarge(figure));
  });
  dialog.addEventListener("click", () => dialog.close());

  // The legend hides a structure, and while pointed at it shows that one alone.
  document.querySelectorAll(".legend button").forEach((button) => {
    const name = button.dataset.structure;
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      each(name, (path) => (path.style.display = on ? "" : "none"));
    });
    const point = (on) => {
      // an inherited value reaches the copies that <use> makes; a selector would not
      document.body.style.setProperty("--others", on ? 0.12 : 1);
      each(name, (path) => path.classList.toggle("chosen", on));
    };
    button.addEventListener("mouseenter", () => point(true));
    button.addEventListener("mouseleave", () => point(false));
  });

  addEventListener("beforeprint", () => (document.querySelector("details").open = true));
})();
