// Lists the pack's templates by their number: the server has them in the order of its file system, which on Linux is none.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const ONE = '01 Text to video'

app.registerExtension({
  name: 'comfyui-ovi-native.templates',

  init() {
    if (typeof api.getWorkflowTemplates !== 'function') return
    const get = api.getWorkflowTemplates.bind(api)
    api.getWorkflowTemplates = async () => {
      const found = await get()
      for (const titles of Object.values(found ?? {})) {
        if (Array.isArray(titles) && titles.includes(ONE)) titles.sort()
      }
      return found
    }
  }
})
