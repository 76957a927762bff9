// What a chooser of files offers first. Gradio's own list would refuse all others at the edge of the page, in words of its own and
// twice; the gate, which reads every file, says it under the button that was pressed.
const PICTURES = ".png,.jpg,.jpeg,.webp";
const OFFERS = [
  ["#distil-files", `${PICTURES},.txt,.caption,.json,.jsonl,.csv,.zip`],
  ['[id^="edit-open-"], [id$="-open"]', PICTURES],
];

addEventListener(
  "click",
  (e) => {
    for (const [selector, kinds] of OFFERS) {
      const place = e.target.closest?.(selector);
      const input = place?.querySelector('input[type="file"]') || place?.parentElement.querySelector(':scope > input[type="file"]');
      if (input) input.accept = kinds;
    }
  },
  true,
);
