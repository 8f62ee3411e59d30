/** Which component shows which tool. A tool that is not named here is shown as JSON. */
import type { Component } from 'vue'

import type { IconName } from '@/components/app/AppIcon.vue'

import DatabaseQuery from './DatabaseQuery.vue'
import DatasourceList from './DatasourceList.vue'
import FileContent from './FileContent.vue'
import FileList from './FileList.vue'
import FileSearch from './FileSearch.vue'
import GenericTool from './GenericTool.vue'
import HttpRequest from './HttpRequest.vue'
import SchemaDescription from './SchemaDescription.vue'

interface ToolKind {
  component: Component
  icon: IconName
}

const KINDS: Record<string, ToolKind> = {
  database_query: { component: DatabaseQuery, icon: 'database' },
  describe_schema: { component: SchemaDescription, icon: 'table' },
  list_datasources: { component: DatasourceList, icon: 'database' },
  http_request: { component: HttpRequest, icon: 'globe' },
  list_files: { component: FileList, icon: 'file' },
  search_files: { component: FileSearch, icon: 'search' },
  read_file: { component: FileContent, icon: 'file' },
  write_file: { component: FileContent, icon: 'file' },
}

export function toolKind(toolName: string): ToolKind {
  return Object.hasOwn(KINDS, toolName) ? (KINDS[toolName] ?? generic) : generic
}

const generic: ToolKind = { component: GenericTool, icon: 'tool' }
