"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const pointer = matchMedia("(hover: hover) and (pointer: fine)");
  const config = { displayModeBar: false, typesetMath: false, showTips: false, doubleClick: "reset" };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("js");

  // ---- figures: drawn when they are first seen, and again when theme or width changes
  const themed = (spec) => {
    const style = getComputedStyle(root);
    return JSON.parse(JSON.stringify(spec), (key, value) =>
      /color$/i.test(key) && typeof value === "string" && value.startsWith("@")
        ? style.getPropertyValue("--" + value.slice(1)).trim()
        : value);
  };
  const draw = (figure) => {
    all(".plot", figure).forEach((plot, place) => {
      const { data, layout } = themed(charts[figure.dataset.chart].panels[place]);
      layout.width = plot.clientWidth;
      layout.dragmode = pointer.matches ? "zoom" : false;
      Plotly.react(plot, data, layout, config);
    });
  };
  const seen = () => all("figure[data-chart]").filter((figure) => figure.offsetParent !== null);
  const redraw = () => seen().forEach(draw);

  all("figure[data-chart]").forEach((figure) => {
    const { panels, keys, choice } = charts[figure.dataset.chart];
    all(".key", figure).forEach((button, place) => button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", shown);
      panels.forEach((panel) => panel.data.forEach((trace) => {
        if (trace.legendgroup === keys[place]) trace.visible = shown;
      }));
      draw(figure);
    }));
    all("select", figure).forEach((select) => select.addEventListener("change", () => {
      const axis = select.dataset.axis;
      const panel = panels[0];
      panel.data.forEach((trace, place) => { trace[axis] = [choice.values[select.value][place]]; });
      panel.layout[axis + "axis"].title.text = choice.labels[select.value] + ": change (%)";
      draw(figure);
    }));
  });

  // ---- tabs: arrows move along them, Enter opens one
  const tabs = all("[role=tab]");
  const focus = (tab) => {
    tabs.forEach((other) => { other.tabIndex = other === tab ? 0 : -1; });
    tab.focus();
  };
  const open = (tab) => {
    tabs.forEach((other) => {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("open", other === tab);
    });
    redraw();
  };
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => {
      open(tab);
      history.replaceState(null, "", "#" + tab.getAttribute("aria-controls"));
    });
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      focus(tabs.at(to % tabs.length));
    });
  });

  // ---- tables: a press on a head sorts the rows, a second one turns them round
  const rank = (row, column) => {
    const text = row.cells[column].textContent.trim().replace(/\u2212/g, "-");
    const number = text.match(/^<? ?([+-]?\d[\d.e-]*)/);  // also of "< 0.001" and "-1.2 [-3.4, 1.0]"
    return number && column ? parseFloat(number[1]) : text;
  };
  const before = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  all("button.sort").forEach((button) => button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    all("th", head.parentElement).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((a, b) => before(rank(a, head.cellIndex), rank(b, head.cellIndex)));
    body.append(...(up ? rows : rows.reverse()));
  }));

  // ---- theme, width, and paper: on paper everything is light and one below the other
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const say = () => { toggle.textContent = theme() === "dark" ? "Light" : "Dark"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    say();
    redraw();
  });
  dark.addEventListener("change", () => { say(); redraw(); });
  const bar = document.querySelector("nav");
  const leaveRoom = () => { root.style.scrollPaddingTop = bar.offsetHeight + "px"; };  // nothing jumped to lies under it
  let width = root.clientWidth;
  addEventListener("resize", () => {
    leaveRoom();
    if (root.clientWidth === width || root.classList.contains("printing")) return;
    width = root.clientWidth;
    redraw();
  });
  const fit = () => all("table").forEach((table) => {  // else the whole paper is made smaller for the widest one
    table.style.zoom = "";
    table.style.zoom = Math.min(1, table.parentElement.clientWidth / table.offsetWidth) || 1;
  });
  const settings = document.getElementById("settings");
  let opened = false;  // for paper only
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    if (settings && !settings.open) opened = settings.open = true;
    fit();
    redraw();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    if (opened) opened = settings.open = false;
    all("table").forEach((table) => { table.style.zoom = ""; });
    redraw();
  });

  say();
  leaveRoom();
  open(tabs.find((tab) => "#" + tab.getAttribute("aria-controls") === location.hash) || tabs[0]);
})();
