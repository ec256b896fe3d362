// Offers the files that a variant lacks by the page's own dialog for missing models, and again when the variant changes.
// The page asks for files that a list has chosen and does not have; so each missing file is such a list, never shown.
// The precision changes nothing here: it is that of the weights in memory, whatever file they come from.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const LOADER = 'OviPipelineLoader' // names a variant, not its files
const SUBGRAPH_INPUT = -10 // the node id that links within a subgraph have where they come from outside
const MOST_LEVELS = 20 // of subgraphs within one another
let variants = [] // all that there are
let wanted = [] // those that the graph names
let lacking = {} // where their missing files are published, by variant

const list = (value) => (Array.isArray(value) ? value : [])
const strings = (value) => list(value).filter((item) => typeof item === 'string')
const objects = (value) => list(value).filter((item) => item !== null && typeof item === 'object')
const models = (value) =>
  objects(value).filter((model) => [model.name, model.url, model.directory].every((part) => typeof part === 'string'))

const root = () => app.rootGraph ?? app.graph // older pages have the second alone
const nodes = () => [root(), ...(root()?.subgraphs?.values?.() ?? [])].flatMap((graph) => graph?.nodes ?? [])

async function json(route, options) {
  try {
    const answer = await api.fetchApi(route, options)
    return answer.ok ? await answer.json() : null
  } catch {
    return null // a server that cannot answer offers nothing
  }
}

// What a node's widget is set to: by itself, or by those of the subgraphs that the node is in.
function valuesOf(node, name, level = 0) {
  const own = node.widgets?.find((widget) => widget.name === name)?.value
  const id = node.inputs?.find((input) => input.name === name)?.link
  const link = id == null ? null : (node.graph?.getLink?.(id) ?? node.graph?.links?.get?.(id))
  if (Number(link?.origin_id) !== SUBGRAPH_INPUT || level > MOST_LEVELS) return [own]
  const outside = node.graph.inputs?.[link.origin_slot]?.name
  const hosts = nodes().filter((other) => other.subgraph && other.subgraph === node.graph)
  return hosts.flatMap((host) => valuesOf(host, outside, level + 1)).map((value) => value ?? own)
}

const variantsOf = (node) => valuesOf(node, 'variant').filter((value) => variants.includes(value))

async function ask() {
  const asked = wanted
  const answer = asked.length ? await json('/ovi_native/missing', { method: 'POST', body: JSON.stringify(asked) }) : {}
  if (asked === wanted) lacking = answer ?? {} // else another workflow was opened, or the variant changed again
}

function offer(node) {
  if (node.type !== LOADER) return
  const missing = () => variantsOf(node).flatMap((variant) => models(lacking[variant]))
  const size = [...node.size]
  for (const model of missing()) {
    const known = list(node.properties.models).filter((other) => other.name !== model.name)
    node.properties.models = [...known, model]
    if (node.widgets?.some((widget) => widget.name === model.name)) continue
    const values = () => (missing().some((other) => other.name === model.name) ? [] : [model.name])
    const widget = node.addWidget('combo', model.name, model.name, () => {}, { values, serialize: false, hidden: true })
    Object.assign(widget, { serialize: false, hidden: true })
  }
  node.setSize?.(size) // a widget makes room for itself, though it is never shown
}

// Whether any file is missing that was not before.
async function renew() {
  const before = new Set(Object.values(lacking).flatMap((each) => models(each).map((model) => model.name)))
  await ask()
  nodes().forEach(offer)
  return wanted.flatMap((variant) => models(lacking[variant])).some((model) => !before.has(model.name))
}

async function follow() {
  const now = [...new Set(nodes().filter((node) => node.type === LOADER).flatMap(variantsOf))]
  if (now.length === wanted.length && now.every((variant) => wanted.includes(variant))) return
  wanted = now
  await show(await renew())
}

async function show(loudly) {
  await app.refreshMissingModels?.({ silent: !loudly, reloadDefs: false })
  app.canvas?.setDirty?.(true, true) // the frame of a node with errors
}

// A run may have downloaded files.
async function afterRun() {
  if (!Object.values(lacking).some((each) => models(each).length)) return
  await renew()
  await show(false)
}

app.registerExtension({
  name: 'comfyui-ovi-native.missing',

  async init() {
    variants = strings((await json('/ovi_native'))?.variants)
    api.addEventListener('graphChanged', follow)
    for (const kind of ['execution_success', 'execution_error']) api.addEventListener(kind, afterRun)
    // The newer renderer sets a widget after the page has looked for changes.
    for (const kind of ['click', 'keyup']) window.addEventListener(kind, () => setTimeout(follow))
  },

  async beforeConfigureGraph(graph) {
    const inner = objects(graph?.definitions?.subgraphs).flatMap((each) => objects(each.nodes))
    const all = [...objects(graph?.nodes), ...inner]
    const values = all.some((node) => node.type === LOADER) ? all.flatMap((node) => list(node.widgets_values)) : []
    wanted = variants.filter((variant) => values.includes(variant))
    await ask()
  },

  refreshComboInNodes: ask, // files may have come since

  loadedGraphNode: offer
})
