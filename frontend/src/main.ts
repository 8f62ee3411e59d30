import './styles/tokens.css'
import './styles/base.css'
import './styles/prose.css'

import { createPinia } from 'pinia'
import { createApp } from 'vue'

import App from './App.vue'
import { createPageRouter } from './router'

const app = createApp(App)
app.use(createPinia())
app.use(createPageRouter())
app.mount('#app')
