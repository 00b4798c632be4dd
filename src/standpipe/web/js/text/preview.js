// The one script of the preview's page: shows the text that the page around it sends, once. Scripts in that text do not
// run, because HTML that is set this way runs none, and because the page's policy allows none but this.

addEventListener(
  'message',
  ({ source, data }) => {
    if (source === parent && typeof data === 'string') document.documentElement.innerHTML = data;
  },
  { once: true },
);
