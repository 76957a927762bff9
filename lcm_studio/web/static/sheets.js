// A run's validation pictures: the slider, or a click on a small one, puts a step's pictures in the large place.
function show(strip, at) {
  const figure = strip.querySelectorAll(".distil-film figure")[at];
  const words = figure.querySelector("figcaption").textContent;
  const [large, caption] = strip.querySelector(".distil-large").children;
  large.src = figure.querySelector("img").src;
  large.alt = caption.textContent = words;
  const slider = strip.querySelector(".distil-slide");
  slider.value = at;
  slider.setAttribute("aria-valuetext", words);
}

document.addEventListener("input", (e) => {
  if (e.target.matches?.(".distil-slide")) show(e.target.closest(".distil-strip"), Number(e.target.value));
});

document.addEventListener("click", (e) => {
  const link = e.target.closest?.(".distil-film a");
  if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return; // those open it in a tab of its own
  e.preventDefault();
  const strip = link.closest(".distil-strip");
  show(strip, [...strip.querySelectorAll(".distil-film a")].indexOf(link));
});
