import './app.css';

import { mount } from 'svelte';

import { adoptToken } from './api/client';
import App from './App.svelte';

adoptToken();
const target = document.getElementById('app');
if (target) mount(App, { target });
