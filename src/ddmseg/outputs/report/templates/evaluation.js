(() => {
  // Pointing at a patient, in a plot or in the table, shows that patient everywhere.
  const all = [...document.querySelectorAll("[data-case]")];
  const choose = (name, on) =>
    all.forEach((one) => one.dataset.case === name && one.classList.toggle("chosen", on));
  all.forEach((one) => {
    one.addEventListener("mouseenter", () => choose(one.dataset.case, true));
    one.addEventListener("mouseleave", () => choose(one.dataset.case, false));
  });
  addEventListener("beforeprint", () =>
    document.querySelectorAll("details").forEach((one) => (one.open = true)),
  );
})();
