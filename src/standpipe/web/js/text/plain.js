// <standpipe-prose> where the real one could not be fetched: the text as it came.

class Plain extends HTMLElement {
  connectedCallback() {
    const early = Object.getOwnPropertyDescriptor(this, 'source')?.value;
    if (!early) return;
    delete this.source;
    this.source = early;
  }

  set source([text]) {
    this.className = 'as-it-came';
    this.textContent = text;
  }
}

customElements.define('standpipe-prose', Plain);
