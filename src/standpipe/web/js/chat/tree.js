// A conversation as a tree: editing or asking again makes a sibling, nothing is overwritten. Pure and immutable.
//
// `nodes` maps an id to {id, parent, role, text, ...}; the first messages have the parent ''. `children` maps a parent
// to its children in order of making, `chosen` to the one that is shown. The path is the chosen child of the chosen
// child of ... of ''.

export const EMPTY = Object.freeze({ nodes: {}, children: {}, chosen: {} });

/** The tree with one more node, which is shown. */
export function add(tree, node) {
  const siblings = tree.children[node.parent] ?? [];
  return {
    nodes: { ...tree.nodes, [node.id]: node },
    children: { ...tree.children, [node.parent]: [...siblings, node.id] },
    chosen: { ...tree.chosen, [node.parent]: node.id },
  };
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
  for (let node = tree.nodes[id]; node; node = tree.nodes[node.parent]) found.unshift(node);
  return found;
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
  const gone = new Set();
  for (const open = [id]; open.length; ) {
    const next = open.pop();
    gone.add(next);
    open.push(...(tree.children[next] ?? []));
  }
  const kept = (table) => Object.fromEntries(Object.entries(table).filter(([key]) => !gone.has(key)));
  const siblings = tree.children[node.parent];
  const rest = siblings.filter((sibling) => sibling !== id);
  const neighbour = rest[Math.min(siblings.indexOf(id), rest.length - 1)];
  const children = { ...kept(tree.children), [node.parent]: rest };
  const chosen = kept(tree.chosen);
  if (chosen[node.parent] === id) chosen[node.parent] = neighbour;
  if (!rest.length) {
    delete children[node.parent];
    delete chosen[node.parent];
  }
  return { nodes: kept(tree.nodes), children, chosen };
}
