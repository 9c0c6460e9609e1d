"""Labels of molecules: GFN2-xTB by tblite, ωB97X/6-31G(d) by PySCF, collected in one file."""
