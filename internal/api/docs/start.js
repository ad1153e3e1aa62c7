// Relative addresses, so that the page also works behind a proxy that adds a path.
window.addEventListener("DOMContentLoaded", () => {
  SwaggerUIBundle({
    url: "openapi.json",
    domNode: document.getElementById("reference"),
    deepLinking: true,
    filter: true,
    validatorUrl: null,
    defaultModelsExpandDepth: 0,
    onComplete: () => { document.body.dataset.ready = "true"; },
  });
});
