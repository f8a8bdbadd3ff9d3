# expect: 0
# /// script
# requires-python = ">=3.11"
# dependencies = ["xarray", "netCDF4", "h5netcdf"]
# ///
import h5netcdf
import netCDF4
import xarray
