// A conversation as a tree: editing or asking again makes a sibling, nothing is overwritten. Pure and immutable.
//
// `nodes` maps an id to {id, parent, role, text, at, ...}; the first messages have the parent ''. `children` maps a
// parent to its children in order of making, `chosen` to the one that is shown. The path is the chosen child of the
// chosen child of ... of ''. `gone` counts how often a node was removed and brought back: odd is removed. So two tabs
// that changed the same tree can put their changes together, and what one removed does not come back from the other.

export const EMPTY = Object.freeze({ nodes: {}, children: {}, chosen: {}, gone: {} });

/** The tree with one more node, which is shown. */
export function add(tree, node) {
  const siblings = tree.children[node.parent] ?? [];
  return {
    ...tree,
    nodes: { ...tree.nodes, [node.id]: node },
    children: { ...tree.children, [node.parent]: [...siblings, node.id] },
    chosen: { ...tree.chosen, [node.parent]: node.id },
  };
}

/** The tree of many nodes, each of which comes after its parent. Linear, where `add` copies. */
export function grown(nodes) {
  const tree = { nodes: {}, children: {}, chosen: {}, gone: {} };
  for (const node of nodes) {
    tree.nodes[node.id] = node;
    (tree.children[node.parent] ??= []).push(node.id);
    tree.chosen[node.parent] = node.id;
  }
  return tree;
}

/** The tree with fields of one node changed; the same tree when there is no such node. */
export function change(tree, id, fields) {
  const node = tree.nodes[id];
  return node ? { ...tree, nodes: { ...tree.nodes, [id]: { ...node, ...fields } } } : tree;
}

/** What is shown, from the first message to the last. */
export function path(tree) {
  const found = [];
  for (let id = tree.chosen['']; id; id = tree.chosen[id]) found.push(tree.nodes[id]);
  return found;
}

/** The path down to a node, which is included, also if it is not shown; nothing when there is no such node. */
export function pathTo(tree, id) {
  const found = [];
  for (let node = tree.nodes[id]; node; node = tree.nodes[node.parent]) found.push(node);
  return found.reverse();
}

/** The last node that is shown, or undefined. */
export function leaf(tree) {
  return path(tree).at(-1);
}

/** Where a node stands among its siblings: {index, count}, counted from 0. */
export function place(tree, id) {
  const siblings = tree.children[tree.nodes[id].parent];
  return { index: siblings.indexOf(id), count: siblings.length };
}

/** Shows the sibling that is `step` further on; the same tree when there is none. */
export function step(tree, id, by) {
  const { parent } = tree.nodes[id];
  const siblings = tree.children[parent];
  const sibling = siblings[siblings.indexOf(id) + by];
  return sibling ? { ...tree, chosen: { ...tree.chosen, [parent]: sibling } } : tree;
}

/** The tree without a node and all below it. Its neighbour is shown instead. */
export function remove(tree, id) {
  const node = tree.nodes[id];
  if (!node) return tree;
  const siblings = tree.children[node.parent];
  const at = siblings.indexOf(id);
  const neighbour = siblings[at + 1] ?? siblings[at - 1];
  const chosen = { ...tree.chosen };
  if (chosen[node.parent] === id) chosen[node.parent] = neighbour;
  const gone = { ...tree.gone, [id]: (tree.gone[id] ?? 0) + 1 };
  return connected(tree.nodes, Object.values(tree.children).flat(), chosen, gone);
}

/** `before` as it was, with what says that the node was brought back after its removal from `tree`. */
export function restored(before, tree, id) {
  return { ...before, gone: { ...before.gone, [id]: (tree.gone[id] ?? 1) + 1 } };
}

/** Two trees of one conversation put together: all that one of them has and none removed; what is shown is `mine`. */
export function merged(mine, theirs) {
  const gone = { ...theirs.gone };
  for (const [id, times] of Object.entries(mine.gone ?? {})) gone[id] = Math.max(times, gone[id] ?? 0);
  const nodes = { ...theirs.nodes };
  for (const node of Object.values(mine.nodes)) nodes[node.id] = further(node, nodes[node.id]);
  const ids = Object.keys(nodes).sort((one, other) => nodes[one].at - nodes[other].at);
  return connected(nodes, ids, { ...theirs.chosen, ...mine.chosen }, gone);
}

const STATES = { waiting: 0, answering: 1, stopped: 2, refused: 2, failed: 3, done: 3 };

/** Of two states of one node the one that happened later. */
function further(one, other) {
  if (!other) return one;
  const later =
    (one.attempt ?? 1) - (other.attempt ?? 1) ||
    (STATES[one.state] ?? 0) - (STATES[other.state] ?? 0) ||
    one.text.length + (one.reasoning ?? '').length - other.text.length - (other.reasoning ?? '').length;
  return later < 0 ? other : one;
}

/** The tree of those nodes, in that order, that are not removed and hang on the root. */
function connected(nodes, ids, wanted, gone) {
  const below = {};
  for (const id of ids) if (!((gone[id] ?? 0) % 2)) (below[nodes[id].parent] ??= []).push(id);
  const tree = { nodes: {}, children: {}, chosen: {}, gone };
  for (const open = ['']; open.length; ) {
    const parent = open.pop();
    const children = below[parent];
    if (!children) continue;
    tree.children[parent] = children;
    tree.chosen[parent] = children.includes(wanted[parent]) ? wanted[parent] : children.at(-1);
    for (const id of children) tree.nodes[id] = nodes[id];
    open.push(...children);
  }
  return tree;
}
