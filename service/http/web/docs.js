"use strict";

const folder = new URL(".", window.location).pathname;

/** Names where the service is, if a proxy has put it below the root of its host. */
const BelowPrefix = {
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (update) => (description) =>
          update(folder === "/" ? description : { ...description, servers: [{ url: folder }] }),
      },
    },
  },
};

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#documentation",
  deepLinking: true,
  displayRequestDuration: true,
  plugins: [BelowPrefix],
  validatorUrl: null, // Swagger UI would otherwise ask a validator on the internet
});
