// Applies the chosen colours before the first paint, so that nothing flashes. A file of its own: the site's CSP permits no
// inline script.
try {
  const theme = localStorage.getItem('offhook.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's colours it is.
}
