// Draws the page's diagrams in the colors of its theme.
const dark = getComputedStyle(document.body).colorScheme === "dark";
mermaid.initialize({ startOnLoad: true, theme: dark ? "dark" : "default" });
