/* A Worker for pages opened from a folder: browsers start none from file://, and the search runs in one.
   It runs the worker's script in a hidden frame instead; elsewhere nothing changes. */
(() => {
  if (location.protocol !== "file:") return;

  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      const base = new URL(address, location.href).href;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...scripts) =>
        scripts.reduce((before, script) => before.then(() => this.load(frame, new URL(script, base).href)), Promise.resolve());
      this.inside = inside;
      this.ready = this.load(frame, base);
    }

    load(frame, address) {
      return new Promise((resolve, reject) => {
        const element = frame.contentDocument.createElement("script");
        element.src = address;
        element.onload = () => resolve();
        element.onerror = () => reject(new Error(`cannot load ${address}`));
        frame.contentDocument.body.append(element);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }

    set onmessage(listener) {
      this.addEventListener("message", listener);
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
})();
