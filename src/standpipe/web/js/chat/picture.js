// Images in a conversation: made small before they are sent and kept, and shown. They are drawn on a canvas, so that the
// page's policy need not allow any address of an image beside our own.

const EDGE = 1568; // pixels of the longer side, beyond which models see nothing more
const ENOUGH = 400_000; // bytes up to which a small image is sent as it is
const AS_IT_IS = ['image/png', 'image/jpeg', 'image/webp'];

/** A file as a data URL, at most EDGE pixels long. Rejects when the browser cannot read it. */
export async function scaled(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, EDGE / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && file.size <= ENOUGH && AS_IT_IS.includes(file.type)) return encoded(file);
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = canvas.getContext('2d');
  context.fillStyle = '#fff'; // JPEG knows nothing transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return encoded(await canvas.convertToBlob({ type: 'image/jpeg', quality: 0.85 }));
}

function encoded(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The bytes of a data URL of an image. */
function decoded(url) {
  const [, type, text] = /^data:(image\/[a-z]+);base64,(.*)$/s.exec(url) ?? [];
  return new Blob([Uint8Array.from(atob(text ?? ''), (character) => character.charCodeAt(0))], { type });
}

class Picture extends HTMLElement {
  #source = '';

  connectedCallback() {
    for (const field of ['source', 'name']) {
      const early = Object.getOwnPropertyDescriptor(this, field)?.value;
      if (early === undefined) continue;
      delete this[field]; // it was set before this class was fetched
      this[field] = early;
    }
  }

  /** What it shows, for those who do not see it. */
  set name(name) {
    this.setAttribute('role', 'img');
    this.setAttribute('aria-label', name);
  }

  /** A data URL. */
  set source(source) {
    if (source === this.#source) return;
    this.#source = source;
    void this.#draw(source);
  }

  async #draw(source) {
    try {
      const bitmap = await createImageBitmap(decoded(source));
      if (source !== this.#source) return;
      const canvas = document.createElement('canvas');
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      canvas.getContext('2d').drawImage(bitmap, 0, 0);
      this.replaceChildren(canvas);
    } catch {
      this.textContent = this.getAttribute('aria-label') ?? '';
    }
  }
}

customElements.define('standpipe-picture', Picture);
