// Shows the report of Ovi Check in the node, in a field whose text can be copied.
import { app } from '../../scripts/app.js'

const NODE = 'OviCheck'
const FIELD = 'report_text'
const EMPTY = {
  en: 'Press Run. The report appears here.',
  fr: 'Cliquez sur Exécuter. Le rapport apparaît ici.',
  zh: '点击“运行”，报告会显示在这里。'
}

function field(node) {
  const known = node.widgets?.find((widget) => widget.name === FIELD)
  if (known) return known
  const placeholder = EMPTY[app.extensionManager?.setting?.get?.('Comfy.Locale')] ?? EMPTY.en
  const { widget } = app.widgets.STRING(node, FIELD, ['STRING', { multiline: true, placeholder }], app)
  widget.serialize = false // the text belongs to this machine, not into a saved workflow
  widget.options.serialize = false
  widget.options.read_only = true
  widget.label = placeholder // which the newer renderer shows above the text
  if (widget.inputEl) widget.inputEl.readOnly = true
  else if (widget.element) widget.element.readOnly = true
  return widget
}

function show(node, output) {
  const text = output?.text
  const lines = (Array.isArray(text) ? text : [text]).filter((line) => typeof line === 'string')
  if (lines.length) Object.assign(field(node), { value: lines.join('\n'), label: ' ' })
}

app.registerExtension({
  name: 'comfyui-ovi-native.check',

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    field(node)
    node.setSize([Math.max(node.size[0], 560), Math.max(node.size[1], 420)])
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.call(this, output)
      show(this, output)
    }
  },

  // When a workflow is opened again in the same session.
  onNodeOutputsUpdated(outputs) {
    for (const [id, output] of Object.entries(outputs ?? {})) {
      const node = app.graph?.getNodeById?.(Number(id))
      if (node?.comfyClass === NODE) show(node, output)
    }
  }
})
