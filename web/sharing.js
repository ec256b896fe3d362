// Opens workflows of other machines: files that have another name here are found, and saved nodes say their version.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const PACK = 'comfyui-ovi-native'
let about = { version: '', nodes: [], loaders: [] }

const allNodes = (graph) => [...graph.nodes, ...(graph.definitions?.subgraphs ?? []).flatMap((inner) => inner.nodes)]

function stamp(node) {
  if (about.nodes.includes(node.comfyClass ?? node.type)) {
    node.properties.cnr_id = PACK
    node.properties.ver = about.version
  }
}

app.registerExtension({
  name: 'OviNative.Sharing',

  async init() {
    about = await (await api.fetchApi('/ovi_native')).json()
  },

  async beforeConfigureGraph(graph) {
    const nodes = allNodes(graph).filter((n) => about.loaders.includes(n.type) && Array.isArray(n.widgets_values))
    if (nodes.length === 0) return
    const asked = nodes.map((node) => ({ type: node.type, values: node.widgets_values }))
    const answer = await api.fetchApi('/ovi_native/opened', { method: 'POST', body: JSON.stringify(asked) })
    if (!answer.ok) return
    const found = await answer.json()
    nodes.forEach((node, index) => {
      node.widgets_values = found[index].values
      if (found[index].models.length) (node.properties ??= {}).models = found[index].models
    })
    const told = [...new Set(found.flatMap((node) => node.told))]
    if (told.length) {
      const detail = told.join('\n')
      app.extensionManager.toast.add({ severity: 'warn', summary: 'Ovi: other files', detail, life: 20000 })
    }
  },

  nodeCreated: stamp,
  loadedGraphNode: stamp
})
