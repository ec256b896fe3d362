// Opens workflows from other machines: files that have another name here are found, examples that the pack brings are put
// into the input folder, and saved nodes carry their version.
// Neither a workflow nor an answer of the server is trusted to have the right shape.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const PACK = 'comfyui-ovi-native'
const MOST_NODES = 1000 // that the server answers at once
const EXAMPLE = /\bovi_example_\w+\.\w+/g // a name in a widget, or in a text that names files
let about = { version: '', nodes: [], loaders: [] }

const list = (value) => (Array.isArray(value) ? value : [])
const strings = (value) => list(value).filter((item) => typeof item === 'string')
const objects = (value) => list(value).filter((item) => item !== null && typeof item === 'object')

const allNodes = (graph) => [
  ...objects(graph?.nodes),
  ...objects(graph?.definitions?.subgraphs).flatMap((inner) => objects(inner.nodes))
]

async function json(route, options) {
  try {
    const answer = await api.fetchApi(route, options)
    return answer.ok ? await answer.json() : null
  } catch {
    return null // a server that cannot answer leaves the workflow as it is
  }
}

function stamp(node) {
  if (about.nodes.includes(node.comfyClass ?? node.type)) {
    node.properties ??= {}
    node.properties.cnr_id = PACK
    node.properties.ver = about.version
  }
}

// Where a missing file is published, as the page's own dialog takes it.
const models = (value) =>
  objects(value).filter((model) => [model.name, model.url, model.directory].every((part) => typeof part === 'string'))

function apply(node, answer) {
  const values = list(answer?.values)
  if (values.length !== node.widgets_values.length) return []
  node.widgets_values = values
  const missing = models(answer.models)
  if (missing.length) (node.properties ??= {}).models = missing
  return strings(answer.notes)
}

async function post(route, asked) {
  return json(route, { method: 'POST', body: JSON.stringify(asked.slice(0, MOST_NODES)) })
}

function tell(summary, notes) {
  const detail = [...new Set(notes)].join('\n') // shown as text, never as HTML
  if (detail) app.extensionManager.toast.add({ severity: 'warn', summary, detail, life: 20000 })
}

// Before the graph is built, so that its loaders list the new files and none of them is called missing.
async function placeExamples(graph) {
  const names = [...new Set(JSON.stringify(graph)?.match(EXAMPLE) ?? [])]
  if (names.length === 0) return
  const answer = await post('/ovi_native/examples', names)
  if (strings(answer?.placed).length) {
    try {
      await (app.reloadNodeDefs ?? app.refreshComboInNodes)?.call(app) // older pages have the second alone
    } catch {
      // The lists of files stay as they are until the page is loaded again.
    }
  }
  tell('Ovi: example files', strings(answer?.notes))
}

async function findFiles(graph) {
  const loaders = allNodes(graph).filter((n) => about.loaders.includes(n.type) && Array.isArray(n.widgets_values))
  const nodes = loaders.slice(0, MOST_NODES)
  if (nodes.length === 0) return
  const asked = nodes.map((node) => ({ type: node.type, values: node.widgets_values }))
  const found = list(await post('/ovi_native/opened', asked))
  if (found.length !== nodes.length) return
  tell('Ovi: other files', nodes.flatMap((node, index) => apply(node, found[index])))
}

app.registerExtension({
  name: 'comfyui-ovi-native.sharing', // after the pack's name in the registry: all extensions share one list

  async init() {
    const found = await json('/ovi_native')
    if (typeof found?.version !== 'string') return
    const [nodes, loaders] = [found.nodes, found.loaders].map(strings)
    about = { version: found.version, nodes, loaders }
  },

  async beforeConfigureGraph(graph) {
    await placeExamples(graph)
    await findFiles(graph)
  },

  nodeCreated: stamp,
  loadedGraphNode: stamp
})
