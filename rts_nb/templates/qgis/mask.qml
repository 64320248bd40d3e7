<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <colorPalette>
        <paletteEntry value="0" label="below the threshold" color="#ffffff" alpha="0"/>
        <paletteEntry value="1" label="RTS" color="#d55e00" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
