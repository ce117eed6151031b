// Browsers start no Worker on pages opened from disk. There, the search of the site runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.hear = (event) => {
        if (event.source !== this.inside) return;
        const heard = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(heard);
        if (this.onmessage) this.onmessage(heard);
      };
      window.addEventListener("message", this.hear);
      const opened = this.inside.document;
      opened.open();
      opened.write(`<script>
        postMessage = (data) => parent.postMessage(data, "*");
        importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {
          const script = document.createElement("script");
          script.src = url;
          script.onload = done;
          document.body.append(script);
        })), Promise.resolve());
      </` + `script><script src="${url}"></` + "script>");
      opened.close();
      this.ready = new Promise((done) => { this.inside.addEventListener("load", done); });
      this.frame = frame;
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      window.removeEventListener("message", this.hear);
      this.frame.remove();
    }
  };
}
