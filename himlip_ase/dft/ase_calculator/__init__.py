"""Any ASE calculator as an engine: VASP, CP2K, GPAW, tblite, a foreign potential."""
